"""Work that takes long, in a thread of its own; clients take turns.

asyncio's own pool has few threads for everybody: a client that sends enough of such work would
fill it, and others would wait for a thread to read their prompt. Not covered: what the work is.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from lmstack.core import OverloadedError

__all__ = ["Turns"]

MAX_WAITING = 16
_Work = tuple[Future[None], Callable[[], object]]


class Turns:
    """Thread-safe. ``name`` is that of the thread."""

    def __init__(self, name: str) -> None:
        self._pool = ThreadPoolExecutor(1, name)
        self._lock = threading.Lock()
        self._waiting: OrderedDict[str, deque[_Work]] = OrderedDict()

    def submit(self, client: str, work: Callable[[], object]) -> Future[None]:
        """Do ``work`` when all others who wait have had their turn; `OverloadedError` where
        ``client`` has too much waiting."""
        future: Future[None] = Future()
        with self._lock:
            queue = self._waiting.setdefault(client, deque())
            if len(queue) >= MAX_WAITING:
                raise OverloadedError(
                    f"{len(queue)} of your requests wait for their grammar to be compiled",
                    hint="send the same grammar again rather than new ones, or smaller ones",
                    retry_after_s=MAX_WAITING,
                )
            queue.append((future, work))
        self._pool.submit(self._do_next)
        return future

    def close(self) -> None:
        """Nothing more is begun."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for queue in self._waiting.values():
                for future, _ in queue:
                    future.cancel()
            self._waiting.clear()

    def _do_next(self) -> None:
        with self._lock:
            if not self._waiting:  # closed
                return
            client, queue = self._waiting.popitem(last=False)
            future, work = queue.popleft()
            if queue:
                self._waiting[client] = queue  # behind everybody else
        if future.set_running_or_notify_cancel():
            try:
                work()
            except Exception as error:  # whoever asked raises it
                future.set_exception(error)
            else:
                future.set_result(None)
