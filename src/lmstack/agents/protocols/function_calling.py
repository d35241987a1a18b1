"""Function calling: the model writes calls by its own template, and a turn without one is the
answer. For models that know tools."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmstack.agents.progress import AgentTurn
from lmstack.agents.protocols.protocol import (
    FENCE_RULE,
    Calls,
    FinalAnswer,
    Reading,
    Unreadable,
    result_rule,
    shown_result,
)
from lmstack.agents.spec import AgentSpec
from lmstack.agents.steps import ModelStep
from lmstack.core import Choice, Grammar, Message, Request, ToolCall
from lmstack.core.json_text import parse_json

__all__ = ["FunctionCalling"]

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class FunctionCalling:
    """A `TurnProtocol`."""

    def system(self, spec: AgentSpec) -> str:
        fence = FENCE_RULE if any(tool.is_untrusted for tool in spec.shown_tools) else ""
        return "\n\n".join(filter(None, (spec.instructions, fence, result_rule(spec))))

    def messages(self, turn: AgentTurn, elided: frozenset[str]) -> list[Message]:
        model = turn.model
        found = [Message("assistant", model.text, tool_calls=tuple(map(_sendable, model.calls)))]
        for step in turn.in_order:
            text, call = shown_result(step, is_elided=step.call.id in elided), _sendable(step.call)
            found.append(Message("tool", text, name=call.name, tool_call_id=call.id))
        return found

    def request(self, spec: AgentSpec, messages: Sequence[Message], *, is_last: bool) -> Request:
        grammar = None
        if is_last and spec.is_constrained and spec.result is not None:
            grammar = Grammar.json_schema(spec.result)
        has_called = any(message.tool_calls for message in messages)
        wanted = "required" if spec.must_call and spec.shown_tools and not has_called else "auto"
        return Request(
            tuple(messages),
            sampling=spec.sampling,
            grammar=grammar,
            tools=tuple(each.tool for each in spec.shown_tools),
            tool_choice="none" if is_last else wanted,
            # Made to call, a small model would call everything.
            parallel_tool_calls=wanted != "required",
        )

    def calls(self, choice: Choice) -> tuple[ToolCall, ...]:
        return choice.tool_calls

    def read(self, step: ModelStep) -> Reading:
        if step.calls:
            return Calls(step.calls)
        if not step.text.strip():
            return Unreadable("Your last message was empty. Call a tool, or answer.")
        return FinalAnswer(step.text)


def _sendable(call: ToolCall) -> ToolCall:
    """``call`` as every provider takes one: arguments that are no JSON object, and names that no
    tool may have, are refused by some. The result of such a call says what the model wrote."""
    try:
        arguments = call.arguments if isinstance(parse_json(call.arguments), dict) else "{}"
    except ValueError:
        arguments = "{}"
    return ToolCall(call.id, NOT_IN_NAMES.sub("_", call.name)[:64] or "_", arguments)
