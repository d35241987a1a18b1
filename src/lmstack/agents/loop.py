"""The loop: does what `decide` says comes next, until the run has ended.

It asks the model, runs calls, asks people and hands tasks to agents below; each of these ends in
steps, stored before anything else happens. Cancelling it at any moment cancels what it waits for
and leaves a run that can be resumed. Does not cover what comes next (`deciding`) or whether a call
may run (`judging`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from lmstack.agents.approval import ApprovalDecision, ApprovalRequest, Approver, Verdict
from lmstack.agents.asking import ModelTurn
from lmstack.agents.calling import CallLimits, call_tool, clean_text, is_cancelled, shortened
from lmstack.agents.deciding import Act, Ask, AskPerson, Done, decide
from lmstack.agents.delegation import BudgetShare, new_child, reported, task_of
from lmstack.agents.journal import RunJournal
from lmstack.agents.judging import call_flows
from lmstack.agents.progress import RunProgress
from lmstack.agents.protocols import PROTOCOLS
from lmstack.agents.runs.run import Run
from lmstack.agents.spans import OpenSpan, Telemetry
from lmstack.agents.spec import AgentSpec, ToolSpec
from lmstack.agents.steps import (
    ApprovalStep,
    BegunStep,
    EndStep,
    ModelStep,
    ResumeStep,
    ToolStep,
)
from lmstack.agents.tools.tool import AgentTool, ToolContext
from lmstack.core import ChatModel, LmstackError, ToolCall
from lmstack.core.json_text import parse_json

__all__ = ["Equipment", "Loop", "RunSession"]

logger = logging.getLogger(__name__)

# Calls of one turn that run beside each other.
MOST_AT_ONCE = 8
CALL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
VERDICTS: tuple[Verdict, ...] = ("approved", "denied", "later", "cancelled")


@dataclass(frozen=True)
class Equipment:
    """What an agent works with. ``members``: agents below, by the name of the tool that asks
    them. ``secrets``: for tools, by name."""

    spec: AgentSpec
    model: ChatModel
    tools: Mapping[str, AgentTool]
    members: Mapping[str, Equipment]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    client: str = "local"
    cache_scope: str = ""


@dataclass(frozen=True)
class RunSession:
    """What a run shares with those below it. A person is asked one thing at a time."""

    approver: Approver | None
    telemetry: Telemetry | None
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Loop:
    """``journal``: of the run, in which its task, or that it goes on, is written already."""

    def __init__(self, equipment: Equipment, journal: RunJournal, session: RunSession) -> None:
        self._equipment, self._journal, self._session = equipment, journal, session
        self._spec = journal.spec

    async def go(self) -> Run:
        """Run until the end; the run as it then is."""
        journal, info = self._journal, self._equipment.model.info
        with self._span(lambda t: t.agent(self._spec.name, journal.id, info)) as mark:
            try:
                while await self._step():
                    pass
            except asyncio.CancelledError:
                self._stopped()
                raise
            run = journal.run
            if mark is not None:
                mark.ended(run.end, run.spent)
        if not run.can_resume:
            for tool in self._equipment.tools.values():
                if run_ended := getattr(tool, "run_ended", None):
                    run_ended(run.id)
        journal.ended()
        return run

    async def _step(self) -> bool:
        """What comes next; False if nothing does."""
        action = decide(self._spec, self._journal.steps, self._journal.clock.now())
        if isinstance(action, Done):
            return False
        if isinstance(action, Ask):
            await self._ask(action)
        elif isinstance(action, Act):
            await self._act(action.calls)
        elif isinstance(action, AskPerson):
            await self._ask_person(action.request)
        else:
            self._journal.add(action)
        return True

    def _stopped(self) -> None:
        """Keep that the run was cancelled; if even that fails it looks like a killed one."""
        steps = self._journal.steps
        if steps and isinstance(steps[-1], EndStep):
            return
        try:
            self._journal.add(EndStep("cancelled", reason="it was stopped", can_resume=True))
        except LmstackError as error:
            logger.error("the end of the run %s was not stored: %s", self._journal.id, error)

    async def _ask(self, ask: Ask) -> None:
        equipment, journal = self._equipment, self._journal
        request = replace(
            ask.request,
            client=equipment.client,
            request_id=f"{journal.id}-{len(journal.steps)}",
            cache_scope=equipment.cache_scope,
        )
        left_s = self._spec.budget.seconds_left(journal.clock.now(), is_last=ask.is_last)
        with self._span(lambda t: t.chat(request, equipment.model.info)) as mark:
            turn = ModelTurn(equipment.model, ask, request, journal.text)
            try:
                step, choice = await turn.run(left_s)
            except asyncio.CancelledError:
                with contextlib.suppress(LmstackError):
                    journal.add(turn.broken("it was stopped", "cancelled"))
                raise
            if choice is not None and not ask.is_last:
                calls = PROTOCOLS[self._spec.protocol].calls(choice)
                step = replace(step, calls=tuple(self._with_ids(calls)))
            journal.add(step)
            if mark is not None:
                mark.answered(step, turn.first_token_s)

    def _with_ids(self, calls: tuple[ToolCall, ...]) -> Iterator[ToolCall]:
        """``calls``, each with an id that no other of the run has: the model's where it will do."""
        steps = self._journal.steps
        used = {call.id for s in steps if isinstance(s, ModelStep) for call in s.calls}
        for call in calls:
            id_ = call.id if CALL_ID.fullmatch(call.id) else ""
            number = len(used)
            while not id_ or id_ in used:
                number += 1
                id_ = f"call_{number}"
            used.add(id_)
            yield ToolCall(id_, clean_text(call.name), clean_text(call.arguments))

    async def _act(self, calls: tuple[ToolCall, ...]) -> None:
        """Run ``calls`` beside each other. Where an agent below waits or was stopped, so does or
        was this run."""
        gate = asyncio.Semaphore(MOST_AT_ONCE)
        journal = self._journal
        beside = sum(call.name in self._equipment.members for call in calls)
        share = BudgetShare(journal.run, journal.clock.now(), beside)
        ends: list[EndStep] = []

        async def one(call: ToolCall) -> None:
            try:
                async with gate:
                    end = await self._call(call, share)
            except asyncio.CancelledError:
                if is_cancelled():
                    raise
                # Not from here: a group of tasks would take it for an end like any other.
                end = EndStep("cancelled", reason=f"{call.name} was cancelled", can_resume=True)
            if end is not None:
                ends.append(end)

        try:
            async with asyncio.TaskGroup() as group:
                for call in calls:
                    group.create_task(one(call))
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        if ends:
            journal.add(min(ends, key=lambda end: end.end))  # cancelled before waiting

    async def _call(self, call: ToolCall, share: BudgetShare) -> EndStep | None:
        tool = self._spec.tool(call.name)
        assert tool is not None  # it was judged
        arguments = parse_json(call.arguments or "{}")
        progress = RunProgress.of(self._journal.steps, self._spec.price)
        tainted = any(flow.is_untrusted for flow in call_flows(self._spec, progress, arguments))
        with self._span(lambda t: t.tool(tool.tool, call.id, call.arguments)) as mark:
            started = time.monotonic()
            if call.name in self._equipment.members:
                step = await self._delegate(call, tool, arguments, share)
            else:
                step = await self._run_tool(call, tool, arguments)
            if isinstance(step, EndStep):
                return step
            untrusted = step.is_untrusted or tainted
            seconds = time.monotonic() - started
            step = replace(step, is_untrusted=untrusted, seconds=seconds)
            self._journal.add(step)
            if mark is not None:
                mark.called(step)
        return None

    async def _run_tool(self, call: ToolCall, tool: ToolSpec, arguments: Any) -> ToolStep:
        journal, secrets = self._journal, self._equipment.secrets
        left_s = self._spec.budget.seconds_left(journal.clock.now(), is_last=False)
        for_budget = left_s is not None and left_s < tool.timeout_s
        seconds = max(left_s or 0.0, 0.0) if for_budget else tool.timeout_s
        limits = CallLimits(seconds, for_budget, self._spec.result_chars, secrets)
        rights = self._spec.rights
        context = ToolContext(journal.id, call.id, secrets, rights.roots, rights.hosts)
        journal.add(BegunStep(call.id))
        chosen = self._equipment.tools[call.name]
        outcome, result = await call_tool(chosen, arguments, context, limits)
        return ToolStep(
            call,
            outcome,
            result.text,
            data=result.data,
            pictures=result.pictures,
            is_untrusted=tool.is_untrusted,
        )

    async def _delegate(
        self, call: ToolCall, tool: ToolSpec, arguments: Any, share: BudgetShare
    ) -> ToolStep | EndStep:
        """Hand the task to the agent below. Its run is the call's: where that was interrupted, it
        goes on."""
        journal, member = self._journal, self._equipment.members[call.name]
        child = journal.children.get(call.id)
        resumed = child is not None
        if child is None:
            child = new_child(share, call, tool, member.spec)
            if child is None:
                return ToolStep(call, "over_budget", "no budget is left for this agent")
            if journal.store is not None:
                journal.store.create(child.id, child.spec, parent=journal.id, call_id=call.id)
            journal.children[call.id] = child
            journal.add(BegunStep(call.id))
        below = journal.below(child, call.name)
        below.started(resumed=resumed)
        try:
            if not below.steps:
                below.add(task_of(share.above, arguments["task"]))
            elif below.run.can_resume:
                below.add(ResumeStep())
            run = await Loop(member, below, self._session).go()
        finally:
            journal.children[call.id] = below.run
        step = reported(call, run)
        if isinstance(step, ToolStep):
            step = replace(step, text=shortened(step.text, self._spec.result_chars))
        return step

    async def _ask_person(self, request: ApprovalRequest) -> None:
        journal, session = self._journal, self._session
        request = replace(request, run_id=journal.id, agent="/".join(journal.agents))
        started = time.monotonic()
        with journal.clock.paused():
            async with session.asking:
                decision = await _decided(session.approver, request)
        journal.add(ApprovalStep(request, decision, time.monotonic() - started))

    @contextlib.contextmanager
    def _span(
        self, start: Callable[[Telemetry], AbstractContextManager[OpenSpan]]
    ) -> Iterator[OpenSpan | None]:
        telemetry = self._session.telemetry
        if telemetry is None:
            yield None
        else:
            with start(telemetry) as mark:
                yield mark


async def _decided(approver: Approver | None, request: ApprovalRequest) -> ApprovalDecision:
    """The approver's decision. One that fails, or says what is no decision, has approved nothing:
    the run waits."""
    if approver is None:
        return ApprovalDecision("later", "there is nobody to ask")
    try:
        decision = await approver.decide(request)
    except Exception as error:
        logger.exception("an approver failed")
        return ApprovalDecision("later", f"the approver failed ({type(error).__name__})")
    if not isinstance(decision, ApprovalDecision) or decision.verdict not in VERDICTS:
        return ApprovalDecision("later", "the approver gave no decision")
    reason, by = clean_text(str(decision.reason)), clean_text(str(decision.by))
    return replace(decision, reason=reason, by=by)
