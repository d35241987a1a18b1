"""Whose large bodies are in memory, and whose turn it is to have one parsed.

Parsing megabytes holds up everybody else's threads, and requests that wait for a model keep what
was parsed, so both are shared out by client: one body of a client is parsed at a time, in threads
that do nothing else, and a client with too many bytes in requests that are not answered yet is told
to wait. Bodies that are small are not looked at here.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lmstack.core import OverloadedError

__all__ = ["SMALL_BYTES", "Bodies", "Held"]

T = TypeVar("T")

# Parsed in less than a millisecond or two, where the request came in.
SMALL_BYTES = 64 * 1024
MOST_BYTES = 256 * 2**20
MOST_BYTES_OF_ONE = 64 * 2**20
THREADS = 2


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
        self._turns: dict[str, tuple[asyncio.Lock, int]] = {}
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
        async with self._turn(client):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, parse, data)

    @contextlib.asynccontextmanager
    async def _turn(self, client: str) -> AsyncIterator[None]:
        lock, waiting = self._turns.get(client, (asyncio.Lock(), 0))
        self._turns[client] = lock, waiting + 1
        try:
            async with lock:
                yield
        finally:
            lock, waiting = self._turns.pop(client)
            if waiting > 1:
                self._turns[client] = lock, waiting - 1
