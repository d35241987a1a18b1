"""What happens to requests when the server is told to stop.

    streams          end at once, with an error event (`streams.EventStream` waits for the signal)
    other requests   get `FINISH_S` to end by themselves, then a 503 in the API's form

Does not cover signals, sockets or closing the models.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from lmstack.serve.http.errors import server_stopping

__all__ = ["FINISH_S", "StopSignal"]

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
