"""The steps of a run as rows, in the order in which they ended; those of agents below under the
call that asked them.

A call that began, or was asked for, and has no result yet has a row too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from lmstack.agents.dataflow import Flow
from lmstack.agents.judging import call_flows
from lmstack.agents.progress import RunProgress
from lmstack.agents.runs.run import Run
from lmstack.agents.steps import ApprovalStep, BegunStep, ModelStep, TaskStep, ToolStep
from lmstack.app.page.agents.axis import TimeAxis
from lmstack.app.page.agents.figures import counted, duration
from lmstack.app.page.agents.rows import AgentBelow, TimelineRow, TimelineRows
from lmstack.app.page.agents.words import ENDS
from lmstack.core import ToolCall
from lmstack.core.json_text import parse_json

__all__ = ["ArgumentFlows", "timeline"]


class ArgumentFlows:
    """Where the arguments of calls came from, worked out once for each call: by what the model had
    been shown when it made it, which does not change as a run goes on."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Flow, ...]] = {}

    def of(self, run: Run, number: int, call: ToolCall) -> tuple[Flow, ...]:
        """Of a ``call`` made in step ``number``."""
        key = (run.id, call.id)
        if key not in self._known:
            self._known[key] = _flows(run, number, call)
        return self._known[key]


def _flows(run: Run, number: int, call: ToolCall) -> tuple[Flow, ...]:
    try:
        arguments = parse_json(call.arguments or "{}")
    except ValueError:
        return ()
    return call_flows(run.spec, RunProgress.of(run.steps[:number], run.spec.price), arguments)


def timeline(run: Run, axis: TimeAxis, flows: ArgumentFlows) -> list[TimelineRow]:
    return list(_rows(run, axis, flows, is_first=True))


def _rows(
    run: Run, axis: TimeAxis, flows: ArgumentFlows, *, is_first: bool
) -> Iterator[TimelineRow]:
    rows = TimelineRows(axis, run.spec.name, run.spec.price)
    made_in: dict[str, int] = {}
    turns = 0
    for number, step in enumerate(run.steps):
        key = f"s{number}"
        if isinstance(step, TaskStep):
            yield rows.task(key, step)
        elif isinstance(step, ModelStep):
            turns += 1
            made_in |= {call.id: number for call in step.calls}
            yield rows.model(key, step, turns)
        elif isinstance(step, ToolStep):
            call = step.call
            yield rows.call(
                f"c{call.id}",
                step,
                flows.of(run, made_in.get(call.id, number), call),
                _below(run, call.id, axis, flows),
                is_agent=_is_agent(run, call.name),
            )
        elif isinstance(step, ApprovalStep):
            yield rows.approval(key, step)
        elif not isinstance(step, BegunStep):
            is_last = number == len(run.steps) - 1
            yield rows.other(key, step, is_open=is_first and is_last)
    yield from _unanswered(run, rows, lambda id_: _below(run, id_, axis, flows))


def _unanswered(
    run: Run, rows: TimelineRows, below: Callable[[str], AgentBelow | None]
) -> Iterator[TimelineRow]:
    """Calls of the last turn that have no result."""
    turn = RunProgress.of(run.steps, run.spec.price).turn
    if turn is None or not run.can_resume:
        return
    for call in turn.pending:
        has_begun = call.id in turn.begun
        runs = has_begun and run.end is None
        word = "running" if runs else "interrupted" if has_begun else "not made yet"
        yield rows.open_call(f"c{call.id}", call, word, below(call.id), runs=runs)


def _below(run: Run, call_id: str, axis: TimeAxis, flows: ArgumentFlows) -> AgentBelow | None:
    child = run.children.get(call_id)
    if child is None:
        return None
    spent = child.spent
    told = (
        f"{ENDS[child.end]}, {counted(spent.steps, 'turn')},"
        f" {counted(spent.usage.total_tokens, 'token')}, {duration(child.seconds)}"
    )
    rows = list(_rows(child, axis, flows, is_first=False))
    return AgentBelow(child.spec.name, told, rows)


def _is_agent(run: Run, name: str) -> bool:
    tool = run.spec.tool(name)
    return tool is not None and tool.is_agent
