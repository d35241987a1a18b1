"""Loads: how many run at once, when they arrive, when they end, and what Ctrl-C leaves."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from lmstack.app.loadgen import Level, Outcome, RandomPrompts, Target, run_levels, summarize

PROMPTS = RandomPrompts(4, 8, seed=0)
TARGET = Target("http://test/v1", "chat", "fake", {"stream_options": {"include_usage": True}})
Client = Callable[..., httpx.AsyncClient]


def silent(_: Level) -> Callable[[int, int | None, str], None]:
    return lambda done, total, label: None


async def loaded(client: httpx.AsyncClient, *levels: Level, seed: int = 0) -> list[Outcome]:
    async with client:
        return await run_levels(client, TARGET, PROMPTS, levels, seed, silent)


@pytest.mark.parametrize("at_once", [1, 3, 20])
async def test_a_closed_loop_keeps_so_many_running_and_no_more(
    fake: Any, client: Client, at_once: int
) -> None:
    server = fake(delay_s=0.002)
    [outcome] = await loaded(client(server), Level(at_once, None, 40, None))
    assert server.most_running == at_once
    assert len(server.bodies) == len(outcome.rows) == 40
    assert all(row.error is None for row in outcome.rows)


async def test_no_two_prompts_are_alike_not_even_of_two_loads(fake: Any, client: Client) -> None:
    server = fake()
    await loaded(client(server), Level(4, None, 20, None), Level(4, None, 20, None))
    texts = [body["messages"][0]["content"] for body in server.bodies]
    assert len({text[:25] for text in texts}) == len(texts) == 40
    again = fake()
    await loaded(client(again), Level(4, None, 20, None), Level(4, None, 20, None))
    assert sorted(b["messages"][0]["content"] for b in again.bodies) == sorted(texts)


async def test_arrivals_are_random_of_the_wanted_rate_and_the_same_again(
    fake: Any, client: Client
) -> None:
    level = Level(None, 2000.0, 400, None)
    [one] = await loaded(client(fake()), level)
    [two] = await loaded(client(fake()), level)
    dues = [row.due for row in one.rows]
    assert dues == [row.due for row in two.rows]
    assert dues == sorted(dues)
    assert 400 / dues[-1] == pytest.approx(2000, rel=0.15)
    gaps = [b - a for a, b in itertools.pairwise(dues)]
    mean = sum(gaps) / len(gaps)
    # Of exponential gaps a share of 1/e is longer than their mean.
    assert sum(gap > mean for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.08)


async def test_a_queue_does_not_hide_in_an_open_loop(fake: Any, client: Client) -> None:
    # One at a time, 15 ms each, and 200 arrivals a second: the last waits for all before it.
    server = fake(words=1, delay_s=0.015, lanes=1)
    [outcome] = await loaded(client(server), Level(None, 200.0, 30, None))
    found = summarize(outcome)
    assert found.answer is not None
    assert found.answer.max > 0.015 * 30 - outcome.rows[-1].due - 0.01
    assert server.most_running > 5


async def test_after_its_duration_a_load_sends_no_more_and_waits_for_the_rest(
    fake: Any, client: Client
) -> None:
    server = fake(words=1, delay_s=0.1)
    [closed] = await loaded(client(server), Level(2, None, None, 0.05))
    [opened] = await loaded(client(server), Level(None, 100.0, None, 0.05))
    assert len(closed.rows) == 2
    assert opened.rows
    assert max(row.due for row in opened.rows) < 0.05
    assert all(row.error is None for row in closed.rows + opened.rows)


async def test_both_limits_hold(fake: Any, client: Client) -> None:
    [outcome] = await loaded(client(fake()), Level(2, None, 3, 60.0))
    assert len(outcome.rows) == 3


async def test_a_cancellation_gives_what_there_is_and_ends_there(fake: Any, client: Client) -> None:
    server = fake(words=8, delay_s=0.02, lanes=2)
    levels = (Level(1, None, 2, None), Level(6, None, 50, None), Level(1, None, 2, None))
    task = asyncio.create_task(loaded(client(server), *levels))
    while len(server.bodies) < 9:
        await asyncio.sleep(0.002)
    task.cancel()
    outcomes = await task
    assert [o.interrupted for o in outcomes] == [False, True]
    assert [row.error for row in outcomes[0].rows] == [None, None]
    errors = [row.error for row in outcomes[1].rows]
    assert errors.count("unfinished") >= 1
    assert set(errors) <= {None, "unfinished"}
    assert summarize(outcomes[1]).unfinished == errors.count("unfinished")
    await asyncio.sleep(0.05)
    assert server.running == 0


async def test_progress_counts_what_ended_and_what_failed(fake: Any, client: Client) -> None:
    server = fake(status=lambda n: 429 if n % 2 else None)
    told: list[tuple[int, int | None, str]] = []

    def started(_: Level) -> Callable[[int, int | None, str], None]:
        return lambda *values: told.append(values)

    async with client(server) as c:
        [outcome] = await run_levels(c, TARGET, PROMPTS, [Level(1, None, 4, None)], 0, started)
    assert told == [(1, 4, ""), (2, 4, "1 failed"), (3, 4, "1 failed"), (4, 4, "2 failed")]
    assert summarize(outcome).errors == {"429": 2}


async def test_this_programs_own_stalls_are_noticed(fake: Any, client: Client) -> None:
    def started(_: Level) -> Callable[[int, int | None, str], None]:
        return lambda *_: time.sleep(0.06)

    async with client(fake(delay_s=0.03)) as c:
        [outcome] = await run_levels(c, TARGET, PROMPTS, [Level(2, None, 4, None)], 0, started)
    assert outcome.held_up > 0.03
