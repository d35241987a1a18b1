"""Tools for templates that do not know them: their description, calls and results as messages.

The descriptions stand in the system message, a turn with calls is its text, and results are a
message of the user's, fenced (`core.Prompt`), so that what a tool returns cannot pass for what a
person asked. All of it is in the prompt that `lmstack model inspect` and ``--explain`` print.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from lmstack.core import Message, Prompt, Span, Tool
from lmstack.text.calls.call_format import CallFormat

__all__ = ["PLAIN", "with_described_tools", "with_plain_results", "without_tool_messages"]

# It stands in words of ours, and a message may have any name.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
PLAIN = CallFormat(
    lead='<tool_call>\n{"name": "',
    name_end='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    end="}\n</tool_call>",
    lead_after_text='\n<tool_call>\n{"name": "',
)


def with_described_tools(
    messages: Sequence[Message], tools: Sequence[Tool], form: CallFormat, *, in_system: bool
) -> list[Message]:
    """``messages`` with ``tools`` in the system message, or in the first of the user's for a
    template without one."""
    text = _described(tools, form)
    first = messages[0] if messages else None
    if first is not None and (first.role == "system" or not in_system):
        both = (first.content, text) if first.role == "system" else (text, first.content)
        return [replace(first, content="\n\n".join(both)), *messages[1:]]
    return [Message("system", text), *messages]


def without_tool_messages(messages: Sequence[Message], form: CallFormat) -> list[Message]:
    """``messages`` with calls as the text that the model wrote, and results as the user's."""
    return [_spoken(message, form) for message in with_plain_results(messages)]


def with_plain_results(messages: Sequence[Message]) -> list[Message]:
    """``messages`` with results of tools as messages of the user's."""
    found: list[Message] = []
    for is_result, group in groupby(messages, lambda message: message.role == "tool"):
        if not is_result:
            found += group
            continue
        spans: list[str | Span] = []
        for message in group:
            name = message.name or _called(messages, message) or ""
            name = name if _NAME.fullmatch(name) else "tool"
            spans += ["\n\n"] * bool(spans)
            spans.append(f"The tool {name} returned:\n")
            spans.append(Span(message.content, untrusted=True, label=f"result of {name}"))
        spans.append("\nNow answer my question.")
        found.append(Message("user", Prompt.of(*spans).render()))
    return found


def _spoken(message: Message, form: CallFormat) -> Message:
    if not message.tool_calls:
        return message
    content = message.content if form.lead_after_text is not None else ""
    text = form.written(message.tool_calls, content).removeprefix(form.opening)
    return replace(message, content=text, tool_calls=())


def _called(messages: Sequence[Message], result: Message) -> str | None:
    """The name of the tool whose result it is."""
    calls = (call for message in messages for call in message.tool_calls)
    return next((call.name for call in calls if call.id == result.tool_call_id), None)


def _described(tools: Sequence[Tool], form: CallFormat) -> str:
    lines = [
        json.dumps(
            {"name": t.name, "description": t.description, "parameters": t.parameters},
            ensure_ascii=False,
        )
        for t in tools
    ]
    example = f"{form.lead}NAME{form.name_end}ARGUMENTS{form.end}"
    return "\n".join(
        [
            "You can call these tools:",
            *lines,
            "To call a tool, write this, with its name and its arguments as JSON:",
            example,
            "The result comes in the next message. Without a need for a tool, answer in words.",
        ]
    )
