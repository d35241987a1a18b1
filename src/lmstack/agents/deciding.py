"""What comes next in a run: the loop as a function of its steps, without a model, tools or a clock
of its own.

The loop does what `decide` says and adds the steps that come of it; a replay asks `decide` again at
every step and compares. One order holds for both protocols:

1. what the last turn asks for is read: an answer, calls, or neither;
2. calls run, those that need no person beside each other, dangerous ones alone and in their place;
3. when all have a result, repetition is looked for (the same calls again, or two that take turns)
   and the budget asked for another turn.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lmstack.agents.approval import ApprovalRequest
from lmstack.agents.arguments import canonical_json, problems
from lmstack.agents.budget import Allowance, Part
from lmstack.agents.judging import Go, NeedsApproval, RefusedCall, judge
from lmstack.agents.progress import AgentTurn, RunProgress
from lmstack.agents.protocols import PROTOCOLS, Calls, FinalAnswer, Unreadable, transcript
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import (
    End,
    EndStep,
    ModelStep,
    NoticeStep,
    Outcome,
    RequestDigests,
    Step,
    ToolStep,
)
from lmstack.core import ContextLengthError, GuardError, Request, Tool, ToolCall
from lmstack.core.json_text import parse_json

__all__ = ["Act", "Action", "Ask", "AskPerson", "Done", "decide", "repeated"]


def repeated(turns: Sequence[AgentTurn]) -> str | None:
    """What the last turn repeats, in words; None if it does not. Calls are the same if their tool
    and their arguments are; their order in one turn does not count."""
    made = [_signature(turn) for turn in turns]
    if not made or not made[-1]:
        return None
    names = " and ".join(sorted({call.name for call in turns[-1].model.calls}))
    if len(made) > 1 and made[-1] == made[-2]:
        return f"the call of {names} with the same arguments"
    if len(made) > 3 and made[-1] == made[-3] and made[-2] == made[-4] and made[-2]:
        return f"the call of {names} in turns with another"
    return None


def _signature(turn: AgentTurn) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((call.name, _canonical(call)) for call in turn.model.calls))


def _canonical(call: ToolCall) -> str:
    try:
        return canonical_json(parse_json(call.arguments))
    except ValueError:
        return call.arguments


# How often in a row a model may write what cannot be read.
MOST_UNREADABLE = 2
# Tokens that a chat template puts around a message at most, and what it says before the tools.
AROUND_MESSAGE, AROUND_TOOLS = 16, 512

CLOSING = {
    "steps": "turns are",
    "tokens": "tokens are",
    "money": "money is",
    "seconds": "time is",
}
ANSWER_NOW = "Answer now with what you have. You cannot call tools any more."


@dataclass(frozen=True, slots=True)
class Ask:
    """A turn of the model."""

    request: Request
    is_last: bool
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Act:
    """Calls to run, beside each other."""

    calls: tuple[ToolCall, ...]


@dataclass(frozen=True, slots=True)
class AskPerson:
    request: ApprovalRequest


@dataclass(frozen=True, slots=True)
class Done:
    """The run has ended; there is nothing to do until somebody resumes it."""


# A step is added as it is; its time is filled in.
Action = Ask | Act | AskPerson | Done | ToolStep | NoticeStep | EndStep


def decide(spec: AgentSpec, steps: list[Step], clock_s: float) -> Action:
    """``clock_s``: seconds that models and tools have worked."""
    progress = RunProgress.of(steps, spec.price)
    if progress.ended is not None:
        return Done()
    last = progress.last
    if isinstance(last, ModelStep) and last.error:
        return _after_error(spec, progress, last, clock_s)
    turn = progress.turn
    if turn is None:
        return _ask(spec, progress, clock_s)
    if turn.model.finish_reason == "content_filter":
        return EndStep("refused", reason="the model or its provider refused to go on")
    reading = PROTOCOLS[spec.protocol].read(turn.model)
    if isinstance(reading, FinalAnswer):
        return _answered(spec, progress, turn, reading.text, clock_s)
    if turn.model.is_last:
        return _ended(progress, turn.model.text.strip(), "the model did not answer when it had to")
    if isinstance(reading, Unreadable):
        return _unreadable(spec, progress, turn, reading, clock_s)
    return _calls(spec, progress, turn, reading, clock_s)


def _after_error(spec: AgentSpec, progress: RunProgress, last: ModelStep, clock_s: float) -> Action:
    if last.error_code == ContextLengthError.code:
        shown_ = len(progress.results) - progress.elided
        if shown_ > 0:
            elided = progress.elided + (shown_ + 1) // 2
            text = f"The {elided} oldest results are left out: the conversation was too long."
            return NoticeStep("context", text, elided=elided)
    if last.error_code == GuardError.code:
        return EndStep("refused", reason=last.error)
    if last.error_code == "timeout":
        return _ask(spec, progress, clock_s)
    return EndStep("failed", reason=last.error, can_resume=True)


def _answered(
    spec: AgentSpec, progress: RunProgress, turn: AgentTurn, text: str, clock_s: float
) -> Action:
    if turn.notices:
        return _ask(spec, progress, clock_s)
    wrong = _wrong_result(spec, text)
    if wrong and not progress.has_notice("result"):
        told = f"Your answer cannot be used: {wrong}. Answer again with the JSON alone."
        return NoticeStep("result", told)
    if wrong:
        return _ended(progress, text, f"the answer does not follow its schema: {wrong}", "failed")
    if turn.model.finish_reason == "length":
        cut = f"the answer was cut after {turn.model.usage.completion_tokens} tokens"
        return _ended(progress, text, cut, "budget" if turn.model.is_cut else "answered")
    return _ended(progress, text, "", "answered")


def _wrong_result(spec: AgentSpec, text: str) -> str:
    if spec.result is None:
        return ""
    try:
        return "; ".join(problems(spec.result, parse_json(text)))
    except ValueError as error:
        return f"it is not JSON ({error})"


def _ended(progress: RunProgress, answer: str, reason: str, end: End = "failed") -> EndStep:
    """An end with ``reason``, unless a notice before has said why the run has to end."""
    for notice in progress.notices:
        if notice.kind == "budget":
            return EndStep("budget", answer, _used_up(notice.part))
        if notice.kind == "stop":
            return EndStep("failed", answer, notice.text.partition(" " + ANSWER_NOW)[0])
    return EndStep(end, answer, reason)


def _unreadable(
    spec: AgentSpec, progress: RunProgress, turn: AgentTurn, reading: Unreadable, clock_s: float
) -> Action:
    if turn.notices:
        return _ask(spec, progress, clock_s)
    read = PROTOCOLS[spec.protocol].read
    in_a_row = 0
    for each in reversed(progress.turns):
        if not isinstance(read(each.model), Unreadable):
            break
        in_a_row += 1
    if in_a_row > MOST_UNREADABLE:
        reason = f"the model wrote {in_a_row} turns in a row that cannot be read"
        return EndStep("failed", reason=reason)
    return NoticeStep("unreadable", reading.problem)


def _calls(
    spec: AgentSpec, progress: RunProgress, turn: AgentTurn, reading: Calls, clock_s: float
) -> Action:
    pending = tuple(call for call in reading.calls if call.id not in turn.results)
    if pending:
        return _next_call(spec, progress, turn, pending, clock_s)
    if turn.notices:
        return _ask(spec, progress, clock_s)
    what = repeated(progress.turns)
    if what and not progress.has_notice("repetition"):
        told = f"You repeat {what}. Use the result that you have, try something else, or answer."
        return NoticeStep("repetition", told)
    if what:
        return NoticeStep("stop", f"The model repeats {what}. {ANSWER_NOW}")
    return _ask(spec, progress, clock_s)


def _next_call(
    spec: AgentSpec,
    progress: RunProgress,
    turn: AgentTurn,
    pending: tuple[ToolCall, ...],
    clock_s: float,
) -> Action:
    left_s = spec.budget.seconds_left(clock_s, is_last=False)
    if left_s is not None and left_s <= 0:
        return _no_result(pending[0], "over_budget", "the call was not made: no time was left")
    first = judge(spec, progress, turn, pending[0])
    if isinstance(first, RefusedCall):
        return _no_result(pending[0], first.outcome, first.text)
    if isinstance(first, NeedsApproval):
        return _person(turn, first.request)
    beside = [pending[0]]
    for call in () if first.is_alone else pending[1:]:
        judged = judge(spec, progress, turn, call)
        if not isinstance(judged, Go) or judged.is_alone:
            break
        beside.append(call)
    return Act(tuple(beside))


def _no_result(call: ToolCall, outcome: Outcome, text: str) -> ToolStep:
    return ToolStep(call, outcome, text)


def _person(turn: AgentTurn, request: ApprovalRequest) -> Action:
    decided = turn.approvals.get(request.call_id)
    if decided is None:
        return AskPerson(request)
    reason = decided.decision.reason
    if decided.decision.verdict == "later":
        text = f"{request.tool} waits for approval" + (f": {reason}" if reason else "")
        return EndStep("waiting", reason=text, can_resume=True)
    text = reason or f"stopped when asked about {request.tool}"
    return EndStep("cancelled", reason=text, can_resume=True)


def _ask(spec: AgentSpec, progress: RunProgress, clock_s: float) -> Ask | NoticeStep | EndStep:
    """The next turn, if the budget allows it: else the notice that the next is the last, or the
    end."""
    is_last = progress.has_notice("budget", "stop", "result")
    protocol = PROTOCOLS[spec.protocol]
    messages = transcript(spec, progress)
    request = protocol.request(spec, messages, is_last=is_last)
    allowance = _allowance(spec, progress, request, clock_s, is_last=is_last)
    if allowance.hit is None:
        most = allowance.max_tokens
        is_cut = most != request.sampling.max_tokens
        if is_cut:
            request = replace(request, sampling=request.sampling.replace(max_tokens=most))
        return Ask(request, is_last, is_cut)
    used_up = _used_up(allowance.hit)
    if is_last or not _fits_last(spec, progress, request, clock_s):
        return EndStep("budget", reason=used_up)
    return NoticeStep("budget", f"{used_up} {ANSWER_NOW}", part=allowance.hit)


def _fits_last(spec: AgentSpec, progress: RunProgress, request: Request, clock_s: float) -> bool:
    return _allowance(spec, progress, request, clock_s, is_last=True).hit is None


def _used_up(part: Part | None) -> str:
    return f"The {CLOSING[part or 'steps']} used up."


def _allowance(
    spec: AgentSpec, progress: RunProgress, request: Request, clock_s: float, *, is_last: bool
) -> Allowance:
    budget = spec.budget
    counts = budget.tokens is not None or budget.money is not None
    return budget.allow(
        progress.spent,
        spec.price,
        _most_prompt_tokens(request, progress) if counts else 0,
        clock_s,
        most=request.sampling.max_tokens,
        is_last=is_last,
    )


def _most_prompt_tokens(request: Request, progress: RunProgress) -> int:
    """The last prompt's tokens, which the model counted, and a token for each byte since; the
    first prompt is counted in bytes alone."""
    asked = RequestDigests.of(request)
    turns = [item for item in progress.items if isinstance(item, AgentTurn)]
    if turns and (counted := turns[-1].model.usage.prompt_tokens):
        known = turns[-1].model.asked
        shared = len(known.messages)
        same = asked.messages[:shared] == known.messages
        if same and (asked.tools == known.tools or request.tool_choice == "none"):
            new = AROUND_MESSAGE * (len(asked.messages) - shared)
            return counted + asked.size - known.size + new
    tools = sum(map(_tool_size, request.tools)) + AROUND_TOOLS * bool(request.tools)
    return asked.size + tools + AROUND_MESSAGE * (len(asked.messages) + 1)


def _tool_size(tool: Tool) -> int:
    text = json.dumps(tool.parameters, indent=4) + tool.name + tool.description
    return len(text.encode("utf-8", "surrogatepass"))
