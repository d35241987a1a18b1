"""A run: its steps, and what can be read from them.

Covers one run with those of the agents below it, in memory and as JSON. Does not cover running.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.arguments import problems
from lmstack.agents.budget import Spent
from lmstack.agents.judging import NeedsApproval, judge
from lmstack.agents.progress import RunProgress
from lmstack.agents.runs.forms import (
    FORMAT,
    spec_from_json,
    spec_to_json,
    step_from_json,
    step_to_json,
)
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import End, EndStep, ModelStep, Step, TaskStep, ToolStep
from lmstack.agents.transcript import transcript
from lmstack.core import FormatError, Message, Usage, shown
from lmstack.core.json_text import parse_json

__all__ = ["Run", "run_from_json", "run_to_json"]


@dataclass(frozen=True)
class Run:
    """``spec``: the agent as it was when the run began. ``children``: runs of agents below, by
    the id of the call that asked them. ``parent``: the id of the run whose call this one is."""

    id: str
    spec: AgentSpec
    steps: tuple[Step, ...]
    children: Mapping[str, Run] = field(default_factory=dict, hash=False)
    parent: str | None = None

    @property
    def task(self) -> str:
        """What it was asked to do, at last."""
        tasks = [step for step in self.steps if isinstance(step, TaskStep)]
        return tasks[-1].text if tasks else ""

    @property
    def last_end(self) -> EndStep | None:
        """None while it runs, and where its process was killed."""
        return self.steps[-1] if self.steps and isinstance(self.steps[-1], EndStep) else None

    @property
    def end(self) -> End | None:
        return self.last_end.end if self.last_end else None

    @property
    def answer(self) -> str:
        return self.last_end.answer if self.last_end else ""

    @property
    def reason(self) -> str:
        """Why it ended as it did; empty for a plain answer."""
        return self.last_end.reason if self.last_end else ""

    @property
    def can_resume(self) -> bool:
        return self.last_end is None or self.last_end.can_resume

    @property
    def result(self) -> Any:
        """The value of an answer that follows the agent's result schema; None for any other."""
        schema = self.spec.result
        if schema is None:
            return None
        try:
            value = parse_json(self.answer)
        except ValueError:
            return None
        return None if problems(schema, value) else value

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation, as the model would be shown it next."""
        return transcript(self.spec, self._progress)

    @property
    def spent(self) -> Spent:
        """By all tasks of the run, agents below included."""
        total = Spent()
        price = self.spec.price
        for step in self.steps:
            if isinstance(step, ModelStep):
                total += Spent(1, step.usage, price.of(step.usage) if price else 0.0)
            elif isinstance(step, ToolStep):
                total += step.spent
        return total

    @property
    def usage(self) -> Usage:
        return self.spent.usage

    @property
    def cost(self) -> float | None:
        """In the currency of the agent's price; None where no price is known."""
        return None if self.spec.price is None else self.spent.money

    @property
    def seconds(self) -> float:
        """For which models and tools worked."""
        return self.steps[-1].clock_s if self.steps else 0.0

    @property
    def untrusted_read(self) -> tuple[str, ...]:
        """What the run has read that others wrote: tools and their calls, documents."""
        return tuple(o.name for o in self._progress.origins(self.spec) if o.is_untrusted)

    @property
    def pending(self) -> tuple[ApprovalRequest, ...]:
        """The calls that wait for a person, those of agents below included."""
        found = [request for child in self.children.values() for request in child.pending]
        progress = self._progress
        if progress.turn is not None:
            for call in progress.turn.pending:
                judged = judge(self.spec, progress, progress.turn, call)
                if isinstance(judged, NeedsApproval):
                    found.append(replace(judged.request, run_id=self.id, agent=self.spec.name))
        return tuple(found)

    def walk(self) -> Iterator[Run]:
        """This run and all below."""
        yield self
        for child in self.children.values():
            yield from child.walk()

    @property
    def _progress(self) -> RunProgress:
        return RunProgress.of(self.steps, self.spec.price)


def run_to_json(run: Run) -> dict[str, Any]:
    """JSON values of a run and all below: for pages, files and other programs."""
    return {
        "format": FORMAT,
        "id": run.id,
        "parent": run.parent,
        "agent": spec_to_json(run.spec),
        "end": run.end,
        "answer": run.answer,
        "reason": run.reason,
        "result": run.result,
        "steps": [step_to_json(step) for step in run.steps],
        "children": {call_id: run_to_json(child) for call_id, child in run.children.items()},
    }


def run_from_json(values: Any) -> Run:
    """What `run_to_json` wrote; `FormatError` for anything else. What is derived is derived again,
    not read."""
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        found = values.get("format") if isinstance(values, dict) else values
        raise FormatError(
            f"the format of a run is {shown(found)}; this lmstack reads {FORMAT}",
            hint="update lmstack if a later version wrote it",
        )
    steps, children = values.get("steps"), values.get("children", {})
    id_, parent = values.get("id"), values.get("parent")
    if not (isinstance(id_, str) and isinstance(steps, list) and isinstance(children, dict)):
        raise FormatError("a run has an id, steps and children, and this one has not")
    if not (parent is None or isinstance(parent, str)):
        raise FormatError(f"the parent of a run is {shown(parent)}, not an id")
    return Run(
        id_,
        spec_from_json(values.get("agent")),
        tuple(step_from_json(step) for step in steps),
        {call_id: run_from_json(child) for call_id, child in children.items()},
        parent,
    )
