"""From the engine's thread to an event loop: all events of a step in one wake-up.

Waking a loop costs a system call; with many streams, one call a token would cost more than the
tokens. Not covered: what the events mean.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary, ref

__all__ = ["Bridge", "Mailbox"]

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Where one stream waits. `get` belongs to the loop, `post` to any thread."""

    def __init__(self, bridge: _LoopBridge) -> None:
        self._bridge = bridge
        self._queue: asyncio.Queue[T] = asyncio.Queue()

    def post(self, item: T) -> None:
        """Takes effect at the next `Bridge.flush`. RuntimeError once the loop is closed."""
        self._bridge.post(lambda: self._queue.put_nowait(item))

    async def get(self) -> T:
        return await self._queue.get()


class _LoopBridge:
    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # weak, or the table of loops would keep it alive
        self._lock = threading.Lock()
        self._pending: list[Callable[[], None]] = []
        self._closed = False

    def post(self, deliver: Callable[[], None]) -> None:
        if self._closed:
            raise RuntimeError("the event loop is closed")
        with self._lock:
            self._pending.append(deliver)

    def flush(self) -> None:
        loop = self._loop()
        if loop is None or not self._pending:
            return
        try:
            loop.call_soon_threadsafe(self._deliver)
        except RuntimeError:
            self._closed = True
            self._pending.clear()

    def _deliver(self) -> None:
        with self._lock:
            pending, self._pending = self._pending, []
        for deliver in pending:
            deliver()


class Bridge:
    """Makes mailboxes; those of one loop share its wake-ups."""

    def __init__(self) -> None:
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _LoopBridge] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def mailbox(self) -> Mailbox[T]:
        """A mailbox of the running loop."""
        loop = asyncio.get_running_loop()
        with self._lock:
            found = self._loops.get(loop)
            if found is None:
                found = self._loops[loop] = _LoopBridge(loop)
        return Mailbox(found)

    def flush(self) -> None:
        """Wake every loop that has something to read."""
        with self._lock:
            loops = list(self._loops.values())
        for loop in loops:
            loop.flush()
