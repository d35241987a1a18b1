"""What a task asks of a system, found by putting its samples to one that answers nothing.

    conversation   a chat without a system prompt of its own: the system's own stands before it
    text           a chat that brings one, or a raw prompt
    likelihoods    how likely texts are
    index, agent   an answer from documents, or a run with tools

A gate cannot judge what none of its tasks asks for. Not covered: what is asked once there is a
first answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Literal, NoReturn

from lmstack.core import Delta, LmstackError, ModelInfo, Request
from lmstack.evals.dataset import Sample
from lmstack.evals.task import Subject, Task

__all__ = ["Asked", "asks"]

Asked = Literal["conversation", "text", "likelihoods", "index", "agent"]
_WRITTEN = ("conversation", "text")


def asks(task: Task, what: Asked) -> bool:
    """Whether a sample of ``task`` asks for ``what`` first of all. Takes no model."""
    return asyncio.run(_asks(task, what))


async def _asks(task: Task, what: Asked) -> bool:
    for sample in task.dataset.samples:
        found = await _first(task, sample)
        if found == what:
            return True
        # Only which of the two a chat is differs from sample to sample.
        if found is not None and not (found in _WRITTEN and what in _WRITTEN):
            return False
    return False


async def _first(task: Task, sample: Sample) -> Asked | None:
    """None: the sample cannot be asked, and whoever runs the task says why."""
    try:
        await task.solver(sample, _Probe("nothing", ""))
    except _AskedError as found:
        return found.what
    except LmstackError:
        pass
    return None


class _AskedError(Exception):
    """Ends a solver at the first thing that it asks for."""

    def __init__(self, what: Asked) -> None:
        super().__init__()
        self.what = what


class _Listener:
    """A model that says what kind of request it was sent."""

    info = ModelInfo("nothing")

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        has_own = not request.messages or request.messages[0].role == "system"
        raise _AskedError("text" if has_own else "conversation")


class _Probe(Subject):
    def needed_chat(self) -> _Listener:
        return _Listener()

    def needed_likelihood(self) -> NoReturn:
        raise _AskedError("likelihoods")

    def needed_index(self) -> NoReturn:
        raise _AskedError("index")

    def needed_agent(self) -> NoReturn:
        raise _AskedError("agent")
