"""Work that blocks and is slow, a few pieces at a time: the rest waits without a thread.

Threads serve all routes. Were each slow request to hold one, a handful of them would keep the
server from answering anything. Does not stop what has begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from lmstack.core import OverloadedError

__all__ = ["Queue"]

P = ParamSpec("P")
T = TypeVar("T")


class Queue:
    """``at_once`` pieces run in threads and up to ``waiting`` wait; whoever comes then is told to
    come back. ``what`` is waited for, in words. For one event loop."""

    def __init__(self, at_once: int, waiting: int, what: str) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._most = at_once + waiting
        self._in = 0
        self._what = what

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What ``work`` returns, or `OverloadedError` at once."""
        if self._in >= self._most:
            raise OverloadedError(
                f"there are {self._in} {self._what} already", hint="try again", retry_after_s=1
            )
        self._in += 1
        try:
            async with self._places:
                return await asyncio.to_thread(work, *args, **kwargs)
        finally:
            self._in -= 1
