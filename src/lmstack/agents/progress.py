"""Where a run is: what its steps come to.

Everything here is derived from the steps alone, so that a run that was killed goes on where it
was, and a replay sees what the loop saw.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lmstack.agents.budget import Spent
from lmstack.agents.dataflow import TextOrigin
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import (
    ApprovalStep,
    BegunStep,
    EndStep,
    ModelStep,
    NoticeStep,
    ResumeStep,
    Step,
    TaskStep,
    ToolStep,
)
from lmstack.core import Price, ToolCall

__all__ = ["AgentTurn", "RunProgress"]


@dataclass(slots=True)
class AgentTurn:
    """A turn of the model and what came of its calls. ``begun``: ids of calls that began.
    ``approvals``: the latest for each call, as long as it holds. ``notices``: after the turn."""

    model: ModelStep
    begun: set[str] = field(default_factory=set)
    results: dict[str, ToolStep] = field(default_factory=dict)
    approvals: dict[str, ApprovalStep] = field(default_factory=dict)
    notices: list[NoticeStep] = field(default_factory=list)

    @property
    def pending(self) -> tuple[ToolCall, ...]:
        return tuple(call for call in self.model.calls if call.id not in self.results)

    @property
    def in_order(self) -> tuple[ToolStep, ...]:
        """Results in the order of the calls, whichever was first."""
        calls = self.model.calls
        return tuple(self.results[call.id] for call in calls if call.id in self.results)


@dataclass(frozen=True, slots=True)
class RunProgress:
    """``items``: tasks and turns of the whole run, in order. ``turns``: those since the last task.
    ``spent``: since then."""

    items: tuple[TaskStep | AgentTurn, ...]
    turns: tuple[AgentTurn, ...]
    notices: tuple[NoticeStep, ...]
    spent: Spent
    elided: int
    last: Step | None
    results: Mapping[str, ToolStep]

    @classmethod
    def of(cls, steps: Sequence[Step], price: Price | None) -> RunProgress:
        items: list[TaskStep | AgentTurn] = []
        turns: list[AgentTurn] = []
        notices: list[NoticeStep] = []
        results: dict[str, ToolStep] = {}
        spent, elided = Spent(), 0
        for step in steps:
            if isinstance(step, TaskStep):
                items.append(step)
                turns, notices, spent = [], [], Spent()
            elif isinstance(step, ModelStep):
                spent += Spent(1, step.usage, price.of(step.usage) if price else 0.0)
                if not step.error:
                    turns.append(AgentTurn(step))
                    items.append(turns[-1])
            elif isinstance(step, NoticeStep):
                notices.append(step)
                elided = max(elided, step.elided)
                if turns:
                    turns[-1].notices.append(step)
            elif isinstance(step, ToolStep):
                results[step.call.id] = step
                spent += step.spent
            if turns:
                _note(turns[-1], step)
        last = steps[-1] if steps else None
        return cls(tuple(items), tuple(turns), tuple(notices), spent, elided, last, results)

    @property
    def turn(self) -> AgentTurn | None:
        return self.turns[-1] if self.turns else None

    @property
    def tasks(self) -> tuple[TaskStep, ...]:
        return tuple(item for item in self.items if isinstance(item, TaskStep))

    @property
    def ended(self) -> EndStep | None:
        return self.last if isinstance(self.last, EndStep) else None

    @property
    def user_words(self) -> str:
        return "\n".join(task.user_words for task in self.tasks)

    def has_notice(self, *kinds: str) -> bool:
        """Whether the loop has said one of ``kinds`` since the last task."""
        return any(notice.kind in kinds for notice in self.notices)

    def origins(self, spec: AgentSpec) -> Iterator[TextOrigin]:
        """Every text that the model was shown and neither the user nor the program wrote."""
        for tool in spec.shown_tools:
            if tool.is_foreign:
                yield TextOrigin(f"the description of {tool.tool.name}", tool.shown_text)
        for task in self.tasks:
            yield from task.inherited
            for span in task.spans:
                if span.untrusted:
                    yield TextOrigin(span.label or "the task", span.text)
        for step in self.results.values():
            if step.has_run:
                yield TextOrigin(f"{step.call.name} ({step.call.id})", step.text, step.is_untrusted)


def _note(turn: AgentTurn, step: Step) -> None:
    if isinstance(step, BegunStep):
        turn.begun.add(step.call_id)
        turn.approvals.pop(step.call_id, None)  # used up: for another try a person is asked again
    elif isinstance(step, ToolStep):
        turn.results[step.call.id] = step
    elif isinstance(step, ApprovalStep):
        turn.approvals[step.request.call_id] = step
    elif isinstance(step, ResumeStep):
        undecided = ("later", "cancelled")
        for call_id, each in list(turn.approvals.items()):
            if each.decision.verdict in undecided:
                del turn.approvals[call_id]
