"""What a run tells while it runs: for a command line, a page, or a program that waits.

An event is told after its step is stored. Does not cover how it is shown.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from lmstack.agents.runs.run import Run
from lmstack.agents.steps import Step

__all__ = ["Ended", "Event", "Listener", "PartialText", "Started", "Stepped", "streamed"]


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
