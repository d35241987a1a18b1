"""Long work of one client does not keep that of another waiting."""

from __future__ import annotations

import asyncio
import threading

import pytest

from lmstack.core import InputError, OverloadedError
from lmstack.serve.threads import MAX_WAITING, RoundRobinThread, Slots


@pytest.fixture
def gate() -> threading.Event:
    return threading.Event()


@pytest.fixture
def turns():
    made = RoundRobinThread("test")
    yield made
    made.close()


def test_clients_have_their_turn_one_after_the_other(
    turns: RoundRobinThread, gate: threading.Event
) -> None:
    done: list[str] = []
    turns.submit("a", gate.wait)
    names = ("a1", "a2", "a3", "b1", "c1", "b2")
    futures = [turns.submit(name[0], lambda name=name: done.append(name)) for name in names]
    gate.set()
    for future in futures:
        future.result(timeout=10)
    assert done == ["a1", "b1", "c1", "a2", "b2", "a3"]


def test_a_client_that_has_too_much_waiting_is_told_so_and_others_are_not(
    turns: RoundRobinThread, gate: threading.Event
) -> None:
    begun = threading.Event()
    turns.submit("a", lambda: begun.set() or gate.wait())
    assert begun.wait(10)
    for _ in range(MAX_WAITING):
        turns.submit("a", gate.wait)
    with pytest.raises(OverloadedError, match=f"{MAX_WAITING} of your requests"):
        turns.submit("a", gate.wait)
    other = turns.submit("b", lambda: None)
    gate.set()
    other.result(timeout=10)


def test_an_error_reaches_who_asked_and_the_next_goes_on(turns: RoundRobinThread) -> None:
    def fail() -> None:
        raise InputError("no")

    failed, other = turns.submit("a", fail), turns.submit("a", lambda: None)
    with pytest.raises(InputError, match="no"):
        failed.result(timeout=10)
    other.result(timeout=10)


def test_what_was_cancelled_is_not_done(turns: RoundRobinThread, gate: threading.Event) -> None:
    done: list[int] = []
    turns.submit("a", gate.wait)
    cancelled = turns.submit("a", lambda: done.append(1))
    last = turns.submit("a", lambda: done.append(2))
    assert cancelled.cancel()
    gate.set()
    last.result(timeout=10)
    assert done == [2]


def test_closing_ends_what_waits(gate: threading.Event) -> None:
    turns = RoundRobinThread("test")
    turns.submit("a", gate.wait)
    waiting = turns.submit("b", lambda: None)
    turns.close()
    gate.set()
    assert waiting.cancelled()


async def test_slots_go_to_who_waits_longest() -> None:
    slots, order = Slots(1), []
    assert slots.take()
    assert not slots.take()

    async def waiter(name: str) -> None:
        await slots.wait()
        order.append(name)

    waiters = []
    for name in "abc":
        waiters.append(asyncio.ensure_future(waiter(name)))
        await asyncio.sleep(0)
    for _ in waiters:
        slots.give()
        assert not slots.take()  # it is somebody else's already
    await asyncio.gather(*waiters)
    assert order == ["a", "b", "c"]
    slots.give()
    assert slots.take()


async def test_a_slot_that_comes_to_who_is_cancelled_goes_on() -> None:
    slots = Slots(1)
    assert slots.take()
    gone, late, last = (asyncio.ensure_future(slots.wait()) for _ in range(3))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.sleep(0)
    slots.give()  # it is ``late``'s, who is cancelled before it runs again
    late.cancel()
    await asyncio.wait_for(last, 10)
    assert not slots.take()


async def test_slots_serve_several_loops() -> None:
    slots, done = Slots(1), []
    assert slots.take()

    def elsewhere() -> None:
        asyncio.run(slots.wait())
        done.append(1)
        slots.give()

    threads = [threading.Thread(target=elsewhere) for _ in range(4)]
    for thread in threads:
        thread.start()
    await asyncio.sleep(0.01)
    slots.give()
    await asyncio.gather(*(asyncio.to_thread(thread.join, 10) for thread in threads))
    assert len(done) == 4
    assert slots.take()
