"""May a call run? The rights, its arguments, and whether a person has to be asked first.

Decided from what was set before the run and from the steps; nothing that the model or a tool says
has a part in it, except that it may make a person necessary. Does not cover asking or running.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmstack.agents.approval import ApprovalRequest, untrusted_first
from lmstack.agents.arguments import canonical_json, problems
from lmstack.agents.dataflow import Flow, flows
from lmstack.agents.progress import AgentTurn, RunProgress
from lmstack.agents.spec import AgentSpec, ToolSpec
from lmstack.agents.steps import Outcome
from lmstack.core import ToolCall, nearest, shown
from lmstack.core.json_text import parse_json

__all__ = ["Go", "NeedsApproval", "RefusedCall", "call_flows", "judge"]


# Of what the model wrote instead of arguments, shown to it again.
WRITTEN_CHARS = 200


@dataclass(frozen=True, slots=True)
class RefusedCall:
    """The call never runs; ``text`` is the observation."""

    outcome: Outcome
    text: str


@dataclass(frozen=True, slots=True)
class NeedsApproval:
    request: ApprovalRequest


@dataclass(frozen=True, slots=True)
class Go:
    """``is_alone``: no other call may run beside it."""

    arguments: dict[str, Any]
    is_alone: bool


def judge(
    spec: AgentSpec, progress: RunProgress, turn: AgentTurn, call: ToolCall
) -> RefusedCall | NeedsApproval | Go:
    tool = spec.tool(call.name)
    if tool is None or not spec.rights.allows(call.name):
        return _not_there(spec, tool, call)
    try:
        arguments = parse_json(call.arguments or "{}")
    except ValueError as error:
        return RefusedCall("invalid_arguments", _not_json(call, str(error)))
    if wrong := problems(tool.tool.parameters, arguments):
        return RefusedCall("invalid_arguments", f"wrong arguments: {'; '.join(wrong)}")
    if not isinstance(arguments, dict):
        return RefusedCall("invalid_arguments", "the arguments are not a JSON object")
    if not spec.needs_person(tool):
        return Go(arguments, is_alone=False)
    return _by_a_person(spec, progress, turn, call, arguments)


def _not_json(call: ToolCall, problem: str) -> str:
    return f"the arguments are not JSON ({problem}): {shown(call.arguments, WRITTEN_CHARS)}"


def _not_there(spec: AgentSpec, tool: ToolSpec | None, call: ToolCall) -> RefusedCall:
    known = [each.tool.name for each in spec.shown_tools]
    guess = nearest(call.name, known)
    hint = f"did you mean {guess}?" if guess else f"the tools: {', '.join(known) or 'none'}"
    if tool is None:
        return RefusedCall("unknown_tool", f"there is no tool {shown(call.name)}; {hint}")
    return RefusedCall("outside_rights", f"you may not call the tool {call.name}; {hint}")


def _by_a_person(
    spec: AgentSpec,
    progress: RunProgress,
    turn: AgentTurn,
    call: ToolCall,
    arguments: dict[str, Any],
) -> RefusedCall | NeedsApproval | Go:
    has_begun = call.id in turn.begun
    approval = turn.approvals.get(call.id)
    verdict = approval.decision.verdict if approval else None
    if approval is not None and verdict == "denied":
        said = approval.decision.reason
        text = f"the call was not approved{f': {said}' if said else ''}"
        if not has_begun:
            return RefusedCall("denied", text)
        begun = "it had begun when the run was interrupted, and may or may not be done; "
        return RefusedCall("unfinished", begun + text)
    if verdict == "approved":
        return Go(arguments, is_alone=True)
    found = call_flows(spec, progress, arguments)
    read = tuple(origin.name for origin in progress.origins(spec) if origin.is_untrusted)
    reason = _reason(spec, call, found, read, has_begun=has_begun)
    if reason is None:
        return Go(arguments, is_alone=True)
    request = ApprovalRequest(
        call.id, call.name, canonical_json(arguments), reason, untrusted_first(found), read
    )
    return NeedsApproval(request)


def _reason(
    spec: AgentSpec,
    call: ToolCall,
    found: tuple[Flow, ...],
    read: tuple[str, ...],
    *,
    has_begun: bool,
) -> str | None:
    """Why a person is asked; None if the call was approved before the run."""
    if has_begun:
        return (
            f"{call.name} had begun when the run was interrupted: it may be done already, and"
            " approving it runs it again"
        )
    tainted = sorted({flow.origin for flow in found if flow.is_untrusted})
    if tainted:
        return f"{call.name} is dangerous, and its arguments hold text of {', '.join(tainted)}"
    if call.name not in spec.rights.approved:
        return f"{call.name} is dangerous"
    if spec.rights.ask_after_untrusted and read:
        return f"{call.name} is dangerous, and the run has read what others wrote"
    return None


def call_flows(spec: AgentSpec, progress: RunProgress, arguments: Any) -> tuple[Flow, ...]:
    """What of ``arguments`` came from tools and documents."""
    return flows(arguments, tuple(progress.origins(spec)), progress.user_words)
