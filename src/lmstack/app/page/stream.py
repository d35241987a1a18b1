"""An answer as named server-sent events, on a connection that may close at any moment.

Whatever ends the response (the last event, an error, the reader going away, the server
stopping), the source is closed before the handler returns, which cancels the model. A comment
goes out while nothing else does, so that the page can tell a slow model from a dead connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lmstack.core import LmstackError
from lmstack.serve.http.errors import error_body, server_stopping
from lmstack.serve.http.streams import StopSignal, close

__all__ = ["AnswerStream", "Event"]

Event = tuple[str, Mapping[str, Any]]
HEARTBEAT_S = 10.0


class AnswerStream(Response):
    """``failed`` turns an exception that is not an `LmstackError` into what may be shown;
    ``left`` is told when the reader goes away."""

    media_type = "text/event-stream"

    def __init__(
        self,
        source: AsyncIterator[Event],
        *,
        stopping: StopSignal,
        failed: Callable[[Exception], LmstackError],
        left: Callable[[], None],
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._source = source
        self._stopping = stopping
        self._failed = failed
        self._left = left
        self._heartbeat_s = heartbeat_s

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(send))
        beat = asyncio.ensure_future(self._beat(send))
        gone = asyncio.ensure_future(_gone(receive))
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({pump, gone, stop}, return_when=asyncio.FIRST_COMPLETED)
            await _end(beat)
            if pump.done():
                pump.result()
                await _send(send, b"", more=False)
            elif gone.done():
                self._left()
            else:
                await _end(pump)
                await self._say_stopping(send)
        finally:
            await _end(pump, beat, gone, stop)
            await close(self._source)

    async def _pump(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        try:
            async for name, data in self._source:
                await _send(send, _event(name, data))
        except LmstackError as error:
            await _send(send, _error_event(error))
        except Exception as error:
            await _send(send, _error_event(self._failed(error)))

    async def _beat(self, send: Send) -> None:
        while True:
            await asyncio.sleep(self._heartbeat_s)
            await _send(send, b": waiting\n\n")

    @staticmethod
    async def _say_stopping(send: Send) -> None:
        with contextlib.suppress(Exception):
            await _send(send, _error_event(server_stopping()))
            await _send(send, b"", more=False)


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    # ASCII JSON: a lone surrogate in a document must not break the stream.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode("ascii")


def _error_event(error: LmstackError) -> bytes:
    detail = error_body(error).error
    return _event(
        "error",
        {"message": detail.message, "hint": detail.hint or "", "status": error.http_status},
    )


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _end(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
