"""An agent: a model with tools, bounded before it runs.

    agent = Agent(model, tools=[search], budget=Budget(steps=8, seconds=60))
    run = await agent.run("When was the last backup?")
    print(run.end, run.answer)

Covers making one, running, following, resuming and replaying. What happens in between is `loop`'s.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from lmstack.agents.approval import Approver
from lmstack.agents.budget import Budget
from lmstack.agents.delegation import member_tool
from lmstack.agents.journal import Event, Listener, RunJournal, streamed
from lmstack.agents.loop import Equipment, Loop, RunSession
from lmstack.agents.progress import RunProgress
from lmstack.agents.rights import Rights
from lmstack.agents.runs import ReplayDifference, Run, RunStore, replay
from lmstack.agents.spans import Telemetry
from lmstack.agents.spec import AgentSpec, ProtocolName, ToolSpec
from lmstack.agents.steps import ModelStep, ResumeStep, Step, TaskStep
from lmstack.agents.tools.tool import AgentTool
from lmstack.core import (
    ChatModel,
    InputError,
    Price,
    Prompt,
    SamplingParams,
    check_range,
    shown,
)

__all__ = ["USUAL_SAMPLING", "Agent", "Member"]

# The likeliest next step rather than a draw, and an end to a turn that finds none by itself.
USUAL_SAMPLING = SamplingParams(temperature=0, max_tokens=1024)


@dataclass(frozen=True)
class Member:
    """An agent of a team. The agent above sees ``name`` and ``description`` as a tool that takes a
    task. ``share``: of what is left of the budget above, how much a task may use at most."""

    name: str
    agent: Agent
    description: str = ""
    share: float = 0.5

    def __post_init__(self) -> None:
        check_range("share", self.share, 0, 1, low_open=True)


class Agent:
    """``tools``: what it can call. ``team``: agents that it can hand tasks to. ``rights``, by
    default: all of these, and a person for each call of a dangerous one. ``budget``: of each task.
    ``price``: of the model's tokens.

    ``protocol``: ``tools`` for models that know tools, ``react`` for any. ``constrained``: hold
    the model to grammars (of ReAct's turns, of results); a provider's model may know none.
    ``must_call``: the first turn has to call a tool (``tools``): small models often answer what
    they do not know. ``sampling``: of each turn, greedy and of 1,024 tokens at most unless given.
    ``result``: a pydantic class or a JSON Schema that the answer has to follow; one answer that
    does not is sent back. ``result_chars``: how much of a tool's result the model is shown.

    ``secrets``: values for tools, by name; never shown to the model and never stored.
    ``telemetry``: OpenTelemetry spans. ``client``, ``cache_scope``: of its requests.

    An agent holds nothing of its runs: any number may run at once."""

    def __init__(
        self,
        model: ChatModel,
        *,
        tools: Iterable[AgentTool] | Mapping[str, AgentTool] = (),
        team: Iterable[Member] = (),
        instructions: str = "",
        name: str = "agent",
        rights: Rights | None = None,
        budget: Budget | None = None,
        price: Price | None = None,
        protocol: ProtocolName = "tools",
        sampling: SamplingParams | None = None,
        constrained: bool = True,
        must_call: bool = False,
        result: type[Any] | Mapping[str, Any] | None = None,
        result_chars: int = 8000,
        secrets: Mapping[str, str] | None = None,
        telemetry: Telemetry | None = None,
        client: str = "local",
        cache_scope: str = "",
    ) -> None:
        given = list(tools.values() if isinstance(tools, Mapping) else tools)
        members = list(team)
        self._result_class = result if isinstance(result, type) else None
        self.spec = AgentSpec(
            name=name,
            instructions=instructions,
            protocol=protocol,
            tools=(*map(ToolSpec.of, given), *map(_member_spec, members)),
            rights=rights or Rights(),
            budget=budget or Budget(),
            price=price,
            sampling=sampling or USUAL_SAMPLING,
            is_constrained=constrained,
            must_call=must_call,
            result=_result_schema(result),
            result_chars=result_chars,
        )
        self.spec.rights.check(self.spec.reach)
        self.equipment: Equipment = Equipment(
            self.spec,
            model,
            {each.tool.name: each for each in given},
            {each.name: each.agent.equipment for each in members},
            dict(secrets or {}),
            client,
            cache_scope,
        )
        self._telemetry = telemetry
        if self.spec.budget.money is not None:
            _check_prices(self.equipment)

    def __repr__(self) -> str:
        tools = ", ".join(each.tool.name for each in self.spec.tools)
        return f"Agent({self.spec.name!r}, tools: {tools or 'none'})"

    async def run(
        self,
        task: str | Prompt,
        *,
        approver: Approver | None = None,
        store: RunStore | None = None,
        run_id: str | None = None,
        after: Run | str | None = None,
        on_event: Listener | None = None,
    ) -> Run:
        """Do ``task``; the run when it has ended. ``approver``: who is asked before dangerous
        calls; without one such a run ends as ``waiting``. ``store``: where every step is kept.
        ``after``: a run that has ended (or its id in the store), whose conversation goes on.
        Untrusted spans of a `Prompt` are fenced, and known for what they are.

        Cancelling the task stops the run, and `resume` goes on with it."""
        if after is not None:
            return await self._continued(after, _task(task), approver, store, on_event)
        run = Run(run_id or uuid.uuid4().hex, self.spec, ())
        if store is not None:
            store.create(run.id, run.spec)
        with _locked(run.id, store):
            return await self._go(run, _task(task), approver, store, on_event)

    def stream(
        self,
        task: str | Prompt,
        *,
        approver: Approver | None = None,
        store: RunStore | None = None,
        run_id: str | None = None,
        after: Run | str | None = None,
    ) -> AsyncIterator[Event]:
        """`run`, as the events that happen in it. Closing the iterator early stops the run."""
        return streamed(
            lambda tell: self.run(
                task, approver=approver, store=store, run_id=run_id, after=after, on_event=tell
            )
        )

    async def resume(
        self,
        run: Run | str,
        *,
        approver: Approver | None = None,
        store: RunStore | None = None,
        on_event: Listener | None = None,
    ) -> Run:
        """Go on with a run that waited, was stopped, failed or was killed, or with its id in the
        store. No finished step is done again. A call that had begun and not ended is made again
        if it is not dangerous; otherwise a person is asked. The rights and the budget are those
        with which the run began. `InputError` if it has ended for good, or if a tool has changed
        since; `StoreError` if it runs somewhere."""
        return await self._continued(run, ResumeStep(), approver, store, on_event)

    def stream_resumed(
        self, run: Run | str, *, approver: Approver | None = None, store: RunStore | None = None
    ) -> AsyncIterator[Event]:
        """`resume`, as events."""
        return streamed(
            lambda tell: self.resume(run, approver=approver, store=store, on_event=tell)
        )

    def replay(self, run: Run) -> tuple[ReplayDifference, ...]:
        """Where ``run`` differs from what this agent would do at the same steps; see `replay`."""
        return replay(run, self.spec)

    def result_of(self, run: Run) -> Any:
        """The result of ``run`` as the class that was asked for; None where there is none."""
        value = run.result
        if value is None or self._result_class is None:
            return value
        return self._result_class.model_validate(value)

    async def _continued(
        self,
        run: Run | str,
        step: Step,
        approver: Approver | None,
        store: RunStore | None,
        listener: Listener | None,
    ) -> Run:
        id_ = run if isinstance(run, str) else run.id
        if store is None and isinstance(run, str):
            raise InputError(f"the run {shown(run)} is an id, and there is no store", param="store")
        with _locked(id_, store):
            current = store.load(id_) if store is not None else run
            assert isinstance(current, Run)
            _check_continued(current, step)
            fitting = _fitted(current, self.equipment)
            return await self._go(fitting, step, approver, store, listener)

    async def _go(
        self,
        run: Run,
        step: Step,
        approver: Approver | None,
        store: RunStore | None,
        listener: Listener | None,
    ) -> Run:
        agents = (self.spec.name,)
        journal = RunJournal(run, store=store, listener=listener, agents=agents)
        journal.started(resumed=bool(run.steps))
        journal.add(step)
        return await Loop(self.equipment, journal, RunSession(approver, self._telemetry)).go()


def _locked(run_id: str, store: RunStore | None) -> AbstractContextManager[None]:
    return contextlib.nullcontext() if store is None else store.lock(run_id)


def _task(task: str | Prompt) -> TaskStep:
    prompt = Prompt.of(task) if isinstance(task, str) else task
    if not prompt.render().strip():
        raise InputError("the task is empty", param="task")
    return TaskStep(prompt.spans)


def _member_spec(member: Member) -> ToolSpec:
    spec = member.agent.spec
    return ToolSpec(
        member_tool(member.name, member.description),
        is_agent=True,
        share=member.share,
        reach=tuple(sorted(spec.reach)),
    )


def _result_schema(result: type[Any] | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if result is None:
        return None
    if isinstance(result, Mapping):
        return dict(result)
    if not hasattr(result, "model_json_schema"):
        raise InputError(
            f"the result is {shown(result)}, neither a pydantic class nor a JSON Schema",
            param="result",
        )
    schema: dict[str, Any] = result.model_json_schema()
    return schema


def _check_prices(equipment: Equipment) -> None:
    for name, member in equipment.members.items():
        if member.spec.price is None:
            raise InputError(
                f"the budget is in money, and the price of the agent {name} is not known",
                hint="give it a price, 0 where tokens cost nothing",
                param="price",
            )
        _check_prices(member)


def _check_continued(run: Run, step: Step) -> None:
    if run.parent is not None:
        raise InputError(
            f"the run {run.id} is part of the run {run.parent}",
            hint="go on with that one",
        )
    if isinstance(step, ResumeStep):
        if not run.can_resume:
            raise InputError(
                f"the run {run.id} has ended ({run.end}): there is nothing to resume",
                hint="give it another task with after",
            )
        return
    turn = RunProgress.of(run.steps, run.spec.price).turn
    if run.end is None or (turn is not None and turn.pending):
        raise InputError(
            f"the run {run.id} has not ended, so no other task can follow",
            hint="resume it first",
        )


def _fitted(run: Run, equipment: Equipment, above: Rights | None = None) -> Run:
    """``run`` for the tools and agents that there are now. They have to be those that it began
    with; what has become dangerous or untrusted since counts as such, and rights that have become
    narrower, also those ``above``, hold."""
    spec = run.spec
    tools = tuple(_fitting_tool(each, equipment) for each in spec.tools)
    rights = spec.rights.within(equipment.spec.rights)
    rights = rights if above is None else rights.within(above)
    turns = (step for step in run.steps if isinstance(step, ModelStep))
    calls = {call.id: call.name for turn in turns for call in turn.calls}
    children = {
        call_id: _fitted(child, equipment.members[calls[call_id]], rights)
        for call_id, child in run.children.items()
    }
    return replace(run, spec=replace(spec, tools=tools, rights=rights), children=children)


def _fitting_tool(stored: ToolSpec, equipment: Equipment) -> ToolSpec:
    now = equipment.spec.tool(stored.tool.name)
    if now is None or now.tool != stored.tool or now.is_agent != stored.is_agent:
        state = "is not there" if now is None else "has changed"
        raise InputError(
            f"the tool {stored.tool.name} {state} since the run began",
            hint="resume the run with the tools that it began with, or start another",
            param="tools",
        )
    return replace(
        stored,
        is_dangerous=stored.is_dangerous or now.is_dangerous,
        is_untrusted=stored.is_untrusted or now.is_untrusted,
        is_foreign=stored.is_foreign or now.is_foreign,
        timeout_s=now.timeout_s,
    )
