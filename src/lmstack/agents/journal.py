"""A run that is being written: each step stored, then told, with the time at which it ended.

Events are for a command line, a page, or a program that waits; an event is told after its step is
stored. Does not cover how it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, replace

from lmstack.agents.budget import Spent
from lmstack.agents.runs.run import Run
from lmstack.agents.runs.store import RunStore
from lmstack.agents.steps import ModelStep, Step, ToolStep

__all__ = [
    "Ended",
    "Event",
    "Listener",
    "PartialText",
    "RunJournal",
    "Started",
    "Stepped",
    "streamed",
]


@dataclass(frozen=True, slots=True)
class Started:
    """A run begins or goes on. ``agents``: names from the first agent down to the one that runs.
    ``resumed``: it had stopped before."""

    run_id: str
    agents: tuple[str, ...]
    resumed: bool = False


@dataclass(frozen=True, slots=True)
class PartialText:
    """More of the text of the turn that the model is writing."""

    run_id: str
    agents: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Stepped:
    """``step`` is number ``number`` of the run, from 0."""

    run_id: str
    agents: tuple[str, ...]
    number: int
    step: Step


@dataclass(frozen=True, slots=True)
class Ended:
    """A run is over. The event of the first agent is the last of all."""

    run_id: str
    agents: tuple[str, ...]
    run: Run


Event = Started | PartialText | Stepped | Ended
Listener = Callable[[Event], None]


async def streamed(start: Callable[[Listener], Awaitable[Run]]) -> AsyncIterator[Event]:
    """The events of the run that ``start`` runs with a listener, as they come. Closing the
    iterator early stops the run, and waits until nothing of it is left."""
    events: asyncio.Queue[Event | None] = asyncio.Queue()

    async def run() -> None:
        try:
            await start(events.put_nowait)
        finally:
            events.put_nowait(None)

    task = asyncio.create_task(run())
    try:
        while (event := await events.get()) is not None:
            yield event
        await task
    finally:
        if not task.done():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


class Clock:
    """Seconds for which a run has worked, from ``start_s`` on. While a person is asked it stands,
    and with it that of the run above."""

    def __init__(self, start_s: float = 0.0, above: Clock | None = None) -> None:
        self._started = time.monotonic() - start_s
        self._above = above
        self._pauses = 0
        self._stood_since = 0.0

    def now(self) -> float:
        until = self._stood_since if self._pauses else time.monotonic()
        return until - self._started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        with self._above.paused() if self._above else contextlib.nullcontext():
            if self._pauses == 0:
                self._stood_since = time.monotonic()
            self._pauses += 1
            try:
                yield
            finally:
                self._pauses -= 1
                if self._pauses == 0:
                    self._started += time.monotonic() - self._stood_since


class RunJournal:
    """``run``: as it is so far. ``agents``: names from the first agent down to this one's."""

    def __init__(
        self,
        run: Run,
        *,
        store: RunStore | None,
        listener: Listener | None,
        agents: tuple[str, ...],
        above: Clock | None = None,
    ) -> None:
        self.id, self.spec, self.parent = run.id, run.spec, run.parent
        self.steps: list[Step] = list(run.steps)
        self.children: dict[str, Run] = dict(run.children)
        self.agents = agents
        self.clock = Clock(run.seconds, above)
        self.store = store
        self.listener = listener
        self._spent = run.spent

    @property
    def run(self) -> Run:
        return Run(self.id, self.spec, tuple(self.steps), dict(self.children), self.parent)

    def add(self, step: Step) -> None:
        """Store ``step`` as the next, then tell of it."""
        step = replace(step, at=time.time(), clock_s=self.clock.now())
        spent = self._spent + self._cost(step)
        number = len(self.steps)
        if self.store is not None:
            self.store.append(self.id, number, step, spent)
        self.steps.append(step)
        self._spent = spent
        self._tell(Stepped(self.id, self.agents, number, step))

    def below(self, run: Run, name: str) -> RunJournal:
        """The journal of a run below this one's, of the agent ``name``."""
        return RunJournal(
            run,
            store=self.store,
            listener=self.listener,
            agents=(*self.agents, name),
            above=self.clock,
        )

    def started(self, *, resumed: bool) -> None:
        self._tell(Started(self.id, self.agents, resumed))

    def text(self, text: str) -> None:
        if text:
            self._tell(PartialText(self.id, self.agents, text))

    def ended(self) -> None:
        self._tell(Ended(self.id, self.agents, self.run))

    def _cost(self, step: Step) -> Spent:
        if isinstance(step, ModelStep):
            price = self.spec.price
            return Spent(1, step.usage, price.of(step.usage) if price else 0.0)
        return step.spent if isinstance(step, ToolStep) else Spent()

    def _tell(self, event: Event) -> None:
        if self.listener is not None:
            self.listener(event)
