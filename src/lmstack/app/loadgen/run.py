"""Loads, one after the other: closed loops and open ones, and an end when it is asked for.

A closed loop keeps so many requests running, as so many patient users would: a slow server gets
fewer. An open loop sends them as strangers arrive, at random times (a Poisson process) whether or
not the server keeps up, and times count from the arrival, so that a queue cannot hide.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from lmstack.app.loadgen.prompts import Prompts
from lmstack.app.loadgen.stream import UNFINISHED, Row, ask
from lmstack.app.loadgen.target import Target

__all__ = ["Level", "Outcome", "Progress", "run_levels"]

Progress = Callable[[int, int | None, str], None]
BEAT_S = 0.02


@dataclass(frozen=True)
class Level:
    """One load. ``concurrency`` requests at once, or ``rate`` arrivals a second; until there
    were ``requests``, or ``duration`` seconds have passed, whichever comes first. What runs then
    is waited for."""

    concurrency: int | None
    rate: float | None
    requests: int | None
    duration: float | None

    @property
    def load(self) -> float:
        return float(self.concurrency or self.rate or 0)

    @property
    def title(self) -> str:
        if self.rate is not None:
            return f"{self.rate:g} requests/s"
        return f"{self.concurrency} at once"


@dataclass
class Outcome:
    """What came of a level. ``held_up``: the longest that this program could not attend to what
    arrived, in seconds; times below it say little."""

    level: Level
    rows: list[Row] = field(default_factory=list)
    held_up: float = 0.0
    interrupted: bool = False


async def run_levels(
    client: httpx.AsyncClient,
    target: Target,
    prompts: Prompts,
    levels: Sequence[Level],
    seed: int,
    started: Callable[[Level], Progress],
) -> list[Outcome]:
    """Run ``levels`` in turn; after Ctrl-C (a cancellation) what there is of them, with
    ``interrupted`` on the last. ``started(level)`` gives what is told of its progress."""
    outcomes = []
    for number, level in enumerate(levels):
        outcomes.append(Outcome(level))
        run = _Run(client, target, prompts, number, outcomes[-1], started(level))
        async with _heartbeat(outcomes[-1]):
            try:
                if level.rate is None:
                    await run.closed()
                else:
                    await run.open(random.Random(f"{seed}/{number}"))
            except asyncio.CancelledError:
                # The caller wants what there is: the cancellation ends here.
                outcomes[-1].interrupted = True
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
                break
    return outcomes


class _Run:
    """One level while it runs."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        target: Target,
        prompts: Prompts,
        number: int,
        outcome: Outcome,
        progress: Progress,
    ) -> None:
        self._client, self._target, self._prompts = client, target, prompts
        self._number, self._outcome, self._progress = number, outcome, progress
        self._level, self._rows = outcome.level, outcome.rows
        self._start = time.perf_counter()
        self._done = self._failed = 0

    def _now(self) -> float:
        return time.perf_counter() - self._start

    def _goes_on(self) -> bool:
        level = self._level
        enough = level.requests is not None and len(self._rows) >= level.requests
        return not enough and (level.duration is None or self._now() < level.duration)

    async def closed(self) -> None:
        async def user() -> None:
            while self._goes_on():
                await self._one(self._now())

        async with asyncio.TaskGroup() as group:
            for _ in range(self._level.concurrency or 1):
                group.create_task(user())

    async def open(self, chance: random.Random) -> None:
        assert self._level.rate is not None
        due = 0.0
        async with asyncio.TaskGroup() as group:
            while self._goes_on():
                due += chance.expovariate(self._level.rate)
                if self._level.duration is not None and due >= self._level.duration:
                    break
                await asyncio.sleep(max(0.0, due - self._now()))
                row = self._row(due)
                group.create_task(self._filled(row))

    async def _one(self, due: float) -> None:
        await self._filled(self._row(due))

    def _row(self, due: float) -> Row:
        row = Row(len(self._rows), due)
        self._rows.append(row)
        return row

    async def _filled(self, row: Row) -> None:
        body = self._target.body(self._prompts.ask(self._number, row.index))
        await ask(self._client, self._target.url, body, row, self._now)
        self._done += 1
        self._failed += row.error not in (None, UNFINISHED)
        total = None if self._level.duration is not None else self._level.requests
        self._progress(self._done, total, f"{self._failed} failed" if self._failed else "")


@asynccontextmanager
async def _heartbeat(outcome: Outcome) -> AsyncIterator[None]:
    """Notes how late this program's own clockwork runs."""

    async def beat() -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(BEAT_S)
            late = time.perf_counter() - before - BEAT_S
            outcome.held_up = max(outcome.held_up, late)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
