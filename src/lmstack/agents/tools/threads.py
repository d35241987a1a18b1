"""Functions that block, each call in a thread of its own.

A thread cannot be killed. One whose call took too long or was cancelled goes on by itself, does
not keep the process from ending, and counts against the calls that may run at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lmstack.core import OverloadedError

__all__ = ["CallOutcome", "Threads"]


@dataclass(frozen=True, slots=True)
class CallOutcome:
    """What a function returned, or the error that it raised. Not every error may be raised out of
    a thread: SystemExit would end the event loop, and StopIteration is lost in a future."""

    value: Any = None
    error: BaseException | None = None


class Threads:
    """At most ``limit`` calls at once, those counted that nobody waits for any more."""

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._running = 0

    async def run(self, function: Callable[[], Any], name: str) -> CallOutcome:
        """What calling ``function`` comes to. ``name``: of the thread."""
        self._enter(name)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[CallOutcome] = loop.create_future()
        context = contextvars.copy_context()

        def settle(outcome: CallOutcome) -> None:
            if not future.done():
                future.set_result(outcome)

        def work() -> None:
            try:
                outcome = CallOutcome(context.run(function))
            except BaseException as error:
                outcome = CallOutcome(error=error)
            self._leave()
            with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(settle, outcome)

        try:
            threading.Thread(target=work, name=f"tool {name}", daemon=True).start()
        except RuntimeError as error:
            self._leave()
            raise OverloadedError(f"no thread can be started for {name}: {error}") from error
        return await future

    def _leave(self) -> None:
        with self._lock:
            self._running -= 1

    def _enter(self, name: str) -> None:
        with self._lock:
            if self._running >= self._limit:
                raise OverloadedError(f"{self._running} calls of {name} still run", hint="wait")
            self._running += 1
