"""StopSignal: what is being answered may finish, and is then told that the server stops."""

from __future__ import annotations

import asyncio

import pytest

from lmstack.serve.http.errors import HttpError
from lmstack.serve.http.streams import StopSignal


async def _answer(signal: StopSignal, work: asyncio.Event) -> str:
    with signal.answering():
        await work.wait()
        return "answered"


async def test_a_request_that_ends_in_time_is_answered():
    signal, work = StopSignal(finish_s=60), asyncio.Event()
    task = asyncio.ensure_future(_answer(signal, work))
    await asyncio.sleep(0)
    signal.set()
    work.set()
    assert await task == "answered"


@pytest.mark.parametrize("late", [False, True], ids=["before", "after_the_signal"])
async def test_a_request_that_does_not_end_is_an_error_with_a_time_to_come_again(late):
    signal = StopSignal(finish_s=0.01)
    if late:
        signal.set()
    task = asyncio.ensure_future(_answer(signal, asyncio.Event()))
    await asyncio.sleep(0)
    signal.set()
    with pytest.raises(HttpError) as caught:
        await task
    assert caught.value.http_status == 503
    assert caught.value.headers["Retry-After"] == "5"
    assert task.cancelling() == 0


async def test_a_cancellation_by_others_stays_one():
    task = asyncio.ensure_future(_answer(StopSignal(finish_s=60), asyncio.Event()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_whoever_no_longer_waits_is_forgotten():
    signal = StopSignal()
    waits = [asyncio.ensure_future(signal.wait()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in waits[:2]:
        task.cancel()
    await asyncio.gather(*waits[:2], return_exceptions=True)
    assert len(signal._waiting) == 1
    signal.set()
    await waits[2]
    assert not signal._waiting


async def test_what_begins_after_the_signal_does_not_wait_for_another():
    signal = StopSignal(finish_s=0)
    signal.set()
    await asyncio.wait_for(signal.wait(), 10)
    with pytest.raises(HttpError):
        await asyncio.wait_for(_answer(signal, asyncio.Event()), 10)
