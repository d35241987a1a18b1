"""Whose large bodies are in memory, and whose turn it is to have one parsed.

Parsing megabytes holds up everybody else's threads, and requests that wait for a model keep what
was parsed, so both are shared out by client: one body of a client is parsed at a time, in threads
that do nothing else, and a client with too many bytes in requests that are not answered yet is told
to wait. Bodies that are small are not looked at here.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from lmstack.core import OverloadedError

__all__ = ["SMALL_BYTES", "Bodies", "Held"]

T = TypeVar("T")

# Parsed in less than a millisecond or two, where the request came in.
SMALL_BYTES = 64 * 1024
MOST_BYTES = 256 * 2**20
MOST_BYTES_OF_ONE = 64 * 2**20
THREADS = 2
# After a body a client waits this many times as long as parsing it took, so that whoever sends one
# after the other takes a fifth of one core at most: threads share the interpreter's lock.
PAUSE = 4.0


class Held:
    """The bytes of one body, counted to the client that sends it."""

    def __init__(self, bodies: Bodies, client: str) -> None:
        self._bodies, self._client = bodies, client
        self.size = 0

    def grow(self, size: int) -> None:
        """The body has ``size`` bytes by now, or `OverloadedError`."""
        self._bodies.count(self._client, size - self.size)
        self.size = size

    def release(self) -> None:
        """The request has been answered."""
        self._bodies.count(self._client, -self.size)
        self.size = 0


class Bodies:
    """The large bodies of one server; of its event loop only."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._turns: dict[str, _Turn] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="lmstack-body")

    def count(self, client: str, size: int) -> None:
        """Add ``size`` bytes to those of ``client``."""
        total = self._held.total() + size
        if size > 0 and (total > MOST_BYTES or self._held[client] + size > MOST_BYTES_OF_ONE):
            raise OverloadedError(
                f"{self._held[client]} bytes of this client's large requests are not answered yet",
                hint="send fewer large requests at once",
                retry_after_s=1,
            )
        self._held[client] += size
        if not self._held[client]:
            del self._held[client]

    async def parsed(self, client: str, parse: Callable[[bytes], T], data: bytes) -> T:
        """What ``parse`` makes of ``data``; one that is large waits for the client's turn."""
        if len(data) <= SMALL_BYTES:
            return parse(data)
        turn = self._turns.setdefault(client, _Turn())
        turn.waiting += 1
        loop = asyncio.get_running_loop()
        try:
            async with turn.lock:
                await asyncio.sleep(turn.free_at - loop.time())
                spent: list[float] = []
                try:
                    timed = partial(_timed, parse, data, spent)
                    return await loop.run_in_executor(self._threads, timed)
                finally:
                    turn.free_at = loop.time() + PAUSE * sum(spent)
        finally:
            turn.waiting -= 1
            loop.call_at(turn.free_at, self._forget, client)

    def _forget(self, client: str) -> None:
        turn = self._turns.get(client)
        if turn is not None and not turn.waiting:
            del self._turns[client]


@dataclass
class _Turn:
    """``free_at``: when the client's next body may be parsed, by the loop's clock."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0
    free_at: float = 0.0


def _timed(parse: Callable[[bytes], T], data: bytes, spent: list[float]) -> T:
    """Adds the processor time to ``spent``."""
    start = time.thread_time()
    try:
        return parse(data)
    finally:
        spent.append(time.thread_time() - start)
