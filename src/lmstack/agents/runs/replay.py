"""A run again, from its steps: would the loop do today what it did then?

Neither a model nor a tool is asked: their steps are what they said. At every step the loop is asked
what comes next after those before it, and that is compared with what is stored: what the model was
asked, how its turn was read, which calls ran or were refused and why, what a person was asked, and
how it ended. Differences show where code, prompts or tools have changed since, or where the steps
were changed. What comes from outside (a person's decision, that somebody stopped or resumed the
run, how long things took) is taken as it is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from lmstack.agents.deciding import Act, Action, Ask, AskPerson, Done, decide
from lmstack.agents.protocols import PROTOCOLS
from lmstack.agents.runs.run import Run, type_of
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import (
    ApprovalStep,
    BegunStep,
    EndStep,
    ModelStep,
    NoticeStep,
    RequestDigests,
    ResumeStep,
    Step,
    TaskStep,
    ToolStep,
)
from lmstack.core import Choice

__all__ = ["ReplayDifference", "replay"]


@dataclass(frozen=True, slots=True)
class ReplayDifference:
    """Step ``number`` of the run ``run_id`` is not what would come there now."""

    run_id: str
    number: int
    what: str

    def __str__(self) -> str:
        return f"step {self.number} of {self.run_id}: {self.what}"


def replay(run: Run, spec: AgentSpec | None = None) -> tuple[ReplayDifference, ...]:
    """Where ``run`` and the runs below it differ from what the loop would do now; empty if
    nowhere. ``spec``: the agent as it is now, with the rights and the budget of then; by default
    it is as it was."""
    spec = (
        run.spec if spec is None else replace(spec, rights=run.spec.rights, budget=run.spec.budget)
    )
    found = [
        ReplayDifference(run.id, number, what)
        for number in range(len(run.steps))
        if (what := _difference(spec, list(run.steps[:number]), run.steps[number]))
    ]
    for child in run.children.values():
        found += replay(child)
    return tuple(found)


def _difference(spec: AgentSpec, before: list[Step], step: Step) -> str:
    """What is wrong with ``step`` after those ``before``; empty if nothing."""
    if isinstance(step, TaskStep | ResumeStep):
        return _from_outside(before, step)
    if isinstance(step, ToolStep) and step.has_run:
        return "" if _is_running(before, step.call.id) else "its call had not begun"
    if isinstance(step, EndStep) and step.end == "cancelled" and step.can_resume:
        return ""
    # The loop decided at some moment between the two steps, and the time may have a say.
    moments = {before[-1].clock_s if before else 0.0, step.clock_s}
    wrong = [_compared(spec, before, step, moment) for moment in sorted(moments)]
    return "" if "" in wrong else wrong[0]


def _from_outside(before: list[Step], step: Step) -> str:
    last = before[-1] if before else None
    if isinstance(step, TaskStep):
        is_right = last is None or isinstance(last, EndStep)
        return "" if is_right else "a task came before the end of the one before"
    if last is None or (isinstance(last, EndStep) and not last.can_resume):
        return "there was nothing to resume"
    return ""


def _is_running(before: list[Step], call_id: str) -> bool:
    """Whether the call began, and in the process that ended it."""
    for step in reversed(before):
        if isinstance(step, BegunStep) and step.call_id == call_id:
            return True
        if isinstance(step, ToolStep) and step.call.id == call_id:
            return False
    return False


def _compared(spec: AgentSpec, before: list[Step], step: Step, clock_s: float) -> str:
    action = decide(spec, before, clock_s)
    if isinstance(step, ModelStep) and isinstance(action, Ask):
        return "; ".join(_asked_otherwise(spec, step, action))
    if isinstance(action, Act):
        return _beside_calls(spec, action, step)
    if isinstance(step, ApprovalStep) and isinstance(action, AskPerson):
        asked = replace(step.request, run_id="", agent="")
        return "" if asked == action.request else "a person would be asked something else"
    if type(action) is type(step):
        return _same_step(action, step)
    return f"the loop would {_described(action)}, and there is a {type_of(step)} step"


def _asked_otherwise(spec: AgentSpec, step: ModelStep, action: Ask) -> Iterator[str]:
    if differing := step.asked.differences(RequestDigests.of(action.request)):
        yield f"the model would be asked otherwise: {', '.join(differing)}"
    if step.is_last != action.is_last:
        yield "the turn would " + ("" if action.is_last else "not ") + "be the last"
    if spec.protocol == "react" and not step.error and not step.is_last:
        choice = Choice(0, step.text, step.finish_reason)
        read = [(call.name, call.arguments) for call in PROTOCOLS["react"].calls(choice)]
        if read != [(call.name, call.arguments) for call in step.calls]:
            yield "its text would be read otherwise"


def _beside_calls(spec: AgentSpec, action: Act, step: Step) -> str:
    ids = [call.id for call in action.calls]
    if isinstance(step, BegunStep) and step.call_id in ids:
        return ""
    members = any(tool.is_agent for c in action.calls if (tool := spec.tool(c.name)))
    if members and isinstance(step, EndStep) and step.end == "waiting":
        return ""
    if members and isinstance(step, ToolStep) and step.outcome == "over_budget":
        return ""
    names = ", ".join(call.name for call in action.calls)
    return f"the loop would run {names}, and there is a {type_of(step)} step"


def _same_step(action: Action, step: Step) -> str:
    if isinstance(action, ToolStep | NoticeStep | EndStep):
        expected = replace(action, at=step.at, clock_s=step.clock_s)
        if expected != step:
            return f"the loop would write {_short(expected)}, and there is {_short(step)}"
    return ""


def _described(action: Action) -> str:
    if isinstance(action, Done):
        return "do nothing more"
    if isinstance(action, Ask):
        return "ask the model"
    if isinstance(action, AskPerson):
        return f"ask a person about {action.request.tool}"
    if isinstance(action, Act):
        return f"run {', '.join(call.name for call in action.calls)}"
    return f"write {_short(action)}"


def _short(step: Step) -> str:
    if isinstance(step, EndStep):
        return f"the end {step.end!r} with {step.answer or step.reason!r}"
    if isinstance(step, ToolStep):
        return f"the result {step.outcome!r} with {step.text!r}"
    if isinstance(step, NoticeStep):
        return f"the notice {step.kind!r} with {step.text!r}"
    return f"a {type_of(step)} step"
