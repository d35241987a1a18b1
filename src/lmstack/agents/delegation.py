"""Handing a task to an agent below: what its run begins with, and what it comes to above.

An agent below gets a share of what is left of the budget, no right that the one above has not, and
the texts that the one above had read, so that a call of its own with such text in it is known for
one. Does not cover running it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from lmstack.agents.budget import Budget
from lmstack.agents.progress import RunProgress
from lmstack.agents.runs.run import Run
from lmstack.agents.spec import AgentSpec, ToolSpec
from lmstack.agents.steps import EndStep, TaskStep, ToolStep
from lmstack.core import Span, Tool, ToolCall

__all__ = ["BudgetShare", "member_tool", "new_child", "reported", "task_of"]

TASK = {
    "type": "object",
    "properties": {
        "task": {
            "type": "string",
            "minLength": 1,
            "description": "The task, with all that is needed to do it.",
        }
    },
    "required": ["task"],
    "additionalProperties": False,
}


def member_tool(name: str, description: str) -> Tool:
    """What the model above is shown of an agent below."""
    return Tool(name, f"Give a task to the agent {name}. {description}".strip(), TASK)


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """What ``beside`` runs that begin together divide: what the one ``above`` had then."""

    above: Run
    clock_s: float
    beside: int

    def budget(self, part: float) -> Budget | None:
        above = self.above
        spent = RunProgress.of(above.steps, above.spec.price).spent
        return above.spec.budget.share(part / max(self.beside, 1), spent, self.clock_s)


def new_child(share: BudgetShare, call: ToolCall, tool: ToolSpec, spec: AgentSpec) -> Run | None:
    """A run for ``spec``; None if no budget is left."""
    above, budget = share.above, share.budget(tool.share)
    if budget is None:
        return None
    bounded = replace(
        spec, rights=spec.rights.within(above.spec.rights), budget=spec.budget.within(budget)
    )
    return Run(f"{above.id}.{call.id}", bounded, (), {}, above.id)


def task_of(above: Run, task: str) -> TaskStep:
    progress = RunProgress.of(above.steps, above.spec.price)
    return TaskStep((Span(task),), tuple(progress.origins(above.spec)), progress.user_words)


def reported(call: ToolCall, run: Run) -> ToolStep | EndStep:
    """What a run below is to the one above: a result, or, where it waits or was stopped, the same
    end."""
    if run.end in ("waiting", "cancelled"):
        return EndStep(run.end, reason=f"{call.name}: {run.reason}", can_resume=True)
    origins = RunProgress.of(run.steps, None).origins(run.spec)
    step = ToolStep(
        call,
        "ok",
        run.answer,
        data=run.result,
        is_untrusted=any(origin.is_untrusted for origin in origins),
        spent=run.spent,
        run_id=run.id,
    )
    if run.end == "answered":
        return step
    has = f" What it has: {run.answer}" if run.answer else ""
    text = f"the agent {call.name} did not finish ({run.end}): {run.reason}{has}"
    return replace(step, outcome="error", text=text)
