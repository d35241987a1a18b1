"""Model streams on a connection that may close at any moment.

Covers watching for the client's departure while queued, generating or sending; server-sent
events; several prompts as one stream. Closing is the point: whatever ends a response, the
model's stream is closed before the handler returns. When the server is told to stop, streams end
at once, with an error event; other requests get `FINISH_S` to end by themselves, then a 503 in the
API's form. Does not cover what the events hold, signals, sockets or closing the models.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lmstack.core import Delta, LmstackError, Usage
from lmstack.serve.http.errors import ClientGoneError, HttpError, error_body, server_stopping
from lmstack.serve.threads import all_of, end_all

__all__ = [
    "EventStream",
    "NamedEvents",
    "Primed",
    "StopSignal",
    "close",
    "merged",
    "prime",
    "until_gone",
]

T = TypeVar("T")

# Shorter than the grace of every server of ours, so that the answer still goes out.
FINISH_S = 1.5


class StopSignal:
    """Set once, in the event loop, when the server is told to stop. Unlike `asyncio.Event` it
    belongs to no loop, so one app can be run by several, as test clients do."""

    def __init__(self, finish_s: float = FINISH_S) -> None:
        self._finish_s = finish_s
        self._set = False
        self._waiting: set[asyncio.Event] = set()
        self._answering: set[asyncio.Task[object]] = set()
        self._ended: set[asyncio.Task[object]] = set()

    def set(self) -> None:
        if self._set:
            return
        self._set = True
        for event in self._waiting:
            event.set()
        for task in self._answering:
            self._end_later(task)

    async def wait(self) -> None:
        if self._set:
            return
        event = asyncio.Event()
        self._waiting.add(event)
        try:
            await event.wait()
        finally:
            self._waiting.discard(event)

    @contextlib.contextmanager
    def answering(self) -> Iterator[None]:
        """Put around the answer to one request: an error with status 503 ends it ``finish_s``
        seconds after the signal."""
        task = asyncio.current_task()
        assert task is not None, "requests are answered in tasks"
        self._answering.add(task)
        if self._set:
            self._end_later(task)
        try:
            yield
        except asyncio.CancelledError:
            if task not in self._ended:
                raise
            task.uncancel()
            raise server_stopping() from None
        finally:
            self._answering.discard(task)
            self._ended.discard(task)

    def _end_later(self, task: asyncio.Task[object]) -> None:
        task.get_loop().call_later(self._finish_s, self._end, task)

    def _end(self, task: asyncio.Task[object]) -> None:
        if task in self._answering:
            self._ended.add(task)
            task.cancel()


async def close(stream: AsyncIterator[Any]) -> None:
    """Close an iterator that may be an async generator."""
    closer = getattr(stream, "aclose", None)
    if closer is not None:
        await closer()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def until_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``, or `ClientGoneError` (``work`` cancelled and ended) when the
    client closes the connection first."""
    task = asyncio.ensure_future(work)
    watcher = asyncio.ensure_future(_gone(receive))
    try:
        await asyncio.wait({task, watcher}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientGoneError
        return task.result()
    finally:
        await end_all(task, watcher)


async def merged(sources: Sequence[Primed], n: int) -> AsyncGenerator[Delta]:
    """Several streams of ``n`` choices as one, choices renumbered, usage added up."""
    queue: asyncio.Queue[tuple[int, Delta | Exception | None]] = asyncio.Queue(len(sources))

    async def feed(number: int, source: Primed) -> None:
        try:
            async for delta in source.deltas():
                await queue.put((number, delta))
            await queue.put((number, None))
        except Exception as error:
            await queue.put((number, error))

    tasks = [asyncio.ensure_future(feed(i, source)) for i, source in enumerate(sources)]
    total, timings, open_feeds = Usage(), None, len(sources)
    try:
        while open_feeds:
            number, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                open_feeds -= 1
                continue
            total += item.usage or Usage()
            timings = item.timings or timings
            place = item.index + number * n
            yield dataclasses.replace(item, index=place, usage=None, timings=None)
        yield Delta(usage=total, timings=timings)
    finally:
        await end_all(*tasks)


class Primed:
    """A stream whose first delta has come: its request was good and generation has begun.
    ``digest``: of the weights that compute it, where the model says so."""

    def __init__(self, first: Delta, rest: AsyncIterator[Delta]) -> None:
        self.rest = rest
        self.digest = first.digest
        self._first = first

    async def deltas(self) -> AsyncGenerator[Delta]:
        yield self._first
        async for delta in self.rest:
            yield delta


async def prime(receive: Receive, streams: Sequence[AsyncIterator[Delta]]) -> list[Primed]:
    """Wait for every first delta, so that an error before it is a proper HTTP status."""
    try:
        firsts = await until_gone(receive, all_of([_first(stream) for stream in streams]))
    except BaseException:
        for stream in streams:
            await close(stream)
        raise
    return [Primed(first, stream) for first, stream in zip(firsts, streams, strict=True)]


async def _first(stream: AsyncIterator[Delta]) -> Delta:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        message, hint = "the model ended without an answer", "try the request again"
        raise HttpError(500, "internal_error", message, hint=hint) from None


class EventStream(Response):
    """Server-sent events, one of each of ``items``, then ``[DONE]``.

    An error in mid-stream becomes an event that OpenAI's clients raise, and no ``[DONE]``
    follows. ``sources``: what ``items`` draws from. ``failed`` turns an unexpected exception into
    what the client may know; ``left`` is told when the client goes away. ``heartbeat_s``: how
    often a comment goes out meanwhile, so that a slow model is told from a dead connection.
    """

    media_type = "text/event-stream"
    end = b"data: [DONE]\n\n"

    def __init__(
        self,
        sources: Sequence[Primed],
        items: AsyncIterator[Any],
        *,
        stopping: StopSignal,
        failed: Callable[[Exception], LmstackError],
        left: Callable[[], None],
        heartbeat_s: float | None = None,
        cache: str = "no-cache",
    ) -> None:
        super().__init__(headers={"Cache-Control": cache, "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._sources, self._items, self._stopping = sources, items, stopping
        self._failed, self._left, self._heartbeat_s = failed, left, heartbeat_s

    def event(self, item: Any) -> bytes:
        data: str = item
        return b"data: " + data.encode() + b"\n\n"

    def error_event(self, error: LmstackError) -> bytes:
        return self.event(error_body(error).model_dump_json())

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        pump = asyncio.ensure_future(self._pump(send))
        beat = asyncio.ensure_future(self._beat(send, pump))
        watcher = asyncio.ensure_future(_gone(receive))
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({pump, watcher, stop}, return_when=asyncio.FIRST_COMPLETED)
            await end_all(beat)
            if pump.done():
                pump.result()
                await _send(send, b"", more=False)
            elif watcher.done():
                self._left()
            else:
                await end_all(pump)
                with contextlib.suppress(Exception):
                    await _send(send, self.error_event(server_stopping()))
                    await _send(send, b"", more=False)
        finally:
            await end_all(pump, beat, watcher, stop)
            # The generators nest, and one that never started does not close what it wraps.
            await close(self._items)
            for source in self._sources:
                await close(source.rest)

    async def _pump(self, send: Send) -> None:
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        try:
            async for item in self._items:
                await _send(send, self.event(item))
            if self.end:
                await _send(send, self.end)
        except LmstackError as error:
            await _send(send, self.error_event(error))
        except Exception as error:
            await _send(send, self.error_event(self._failed(error)))

    async def _beat(self, send: Send, pump: asyncio.Future[None]) -> None:
        while self._heartbeat_s is not None:
            await asyncio.sleep(self._heartbeat_s)
            if not pump.done():
                await _send(send, b": waiting\n\n")


class NamedEvents(EventStream):
    """Events that are named by the ``type`` of what they hold, without ``[DONE]`` at the end.
    ``failure`` makes the last event of a stream that breaks off."""

    end = b""

    def __init__(self, *what: Any, failure: Callable[[LmstackError], BaseModel], **how: Any):
        super().__init__(*what, **how)
        self._failure = failure

    def event(self, item: Any) -> bytes:
        data = item.model_dump_json(exclude_unset=True)
        return f"event: {item.type}\ndata: {data}\n\n".encode()

    def error_event(self, error: LmstackError) -> bytes:
        return self.event(self._failure(error))


async def _send(send: Send, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})
