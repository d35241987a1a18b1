"""Between threads and event loops, for a model that is asked from any of them.

    Bridge, Mailbox    events of the engine's thread to a loop, all of a step in one wake-up: waking
                       a loop costs a system call, and one a token would cost more than the tokens
    RoundRobinThread   work that takes long, each client in its turn
    Slots              so many at once, over all loops
    all_of, end_all    several coroutines at once
    in_any_thread      a call that runs a loop of its own, also from within a running one

Not covered: what the events mean and what the work is.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from lmstack.core import OverloadedError

__all__ = ["Bridge", "Mailbox", "RoundRobinThread", "Slots", "all_of", "end_all", "in_any_thread"]

T = TypeVar("T")

MAX_WAITING = 16
_Work = tuple[Future[None], Callable[[], object]]


async def end_all(*tasks: asyncio.Future[Any]) -> None:
    """Cancel ``tasks`` and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def all_of(works: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Results in order; the first failure cancels the others and is raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        await end_all(*tasks)


def in_any_thread(work: Callable[[], T]) -> T:
    """What ``work`` gives, which runs an event loop: in a thread of its own where one is running
    here already (a notebook has one)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(work).result()


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


class Slots:
    """``count`` at once, whichever loops take them; who waits longest is next. Thread-safe."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._free = count
        self._waiting: deque[Future[None]] = deque()  # empty while one is free

    def take(self) -> bool:
        """Take one if it is free."""
        with self._lock:
            if not self._free:
                return False
            self._free -= 1
            return True

    async def wait(self) -> None:
        """Take one in turn."""
        with self._lock:
            if self._free:
                self._free -= 1
                return
            granted: Future[None] = Future()
            self._waiting.append(granted)
        try:
            await asyncio.wrap_future(granted)
        except asyncio.CancelledError:
            if not granted.cancel():  # it came meanwhile
                self.give()
            raise

    def give(self) -> None:
        """Give one back."""
        with self._lock:
            while self._waiting:
                granted = self._waiting.popleft()
                if granted.set_running_or_notify_cancel():
                    break
            else:
                self._free += 1
                return
        granted.set_result(None)


class RoundRobinThread:
    """Work that takes long, in a thread of its own; clients take turns. asyncio's own pool has few
    threads for everybody: a client that sends enough of such work would fill it, and others would
    wait for a thread to read their prompt. Thread-safe. ``name`` is that of the thread."""

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
