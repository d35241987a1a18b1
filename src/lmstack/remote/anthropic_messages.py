"""A conversation and its tools as Anthropic's API takes them: system text apart, calls and results
as blocks."""

from __future__ import annotations

import json
from typing import Any

from lmstack.core import InputError, Message, Request, Tool, UnsupportedError, shown

__all__ = ["anthropic_messages", "anthropic_tools"]

Block = dict[str, Any]
CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def anthropic_messages(messages: tuple[Message, ...], model: str) -> tuple[str, list[Block]]:
    """The system text, which must come first, and the conversation. The results of one turn's
    calls are one message."""
    system: list[str] = []
    rest: list[Block] = []
    results: list[Block] | None = None
    for place, message in enumerate(messages):
        if message.role == "tool":
            if results is None:
                results = []
                rest.append({"role": "user", "content": results})
            results.append(_result(message))
            continue
        results = None
        if message.name:
            raise UnsupportedError(
                f"{model} is asked without names, and a message has one",
                param=f"messages.{place}.name",
            )
        if message.role != "system":
            rest.append({"role": message.role, "content": _content(message, place)})
        elif rest:
            raise UnsupportedError(
                f"{model} takes system messages only before all others", param="messages"
            )
        else:
            system.append(message.content)
    if not rest:
        raise InputError(
            "the conversation has only system messages", hint="add a user message", param="messages"
        )
    return "\n\n".join(system), rest


def _content(message: Message, place: int) -> str | list[Block]:
    if not message.tool_calls:
        return message.content
    # The API takes no empty text.
    said = [{"type": "text", "text": message.content}] if message.content else []
    return said + [
        {"type": "tool_use", "id": c.id, "name": c.name, "input": _input(c.arguments, place)}
        for c in message.tool_calls
    ]


def _input(arguments: str, place: int) -> dict[str, Any]:
    try:
        found = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError(
            f"the arguments of a call are {shown(arguments)}, not a JSON object",
            hint="leave the call and its result out",
            param=f"messages.{place}.tool_calls",
        )
    return found


def _result(message: Message) -> Block:
    return {
        "type": "tool_result",
        "tool_use_id": message.tool_call_id,
        "content": message.content,
    }


def anthropic_tools(request: Request) -> dict[str, Any]:
    """The fields of a body that are about tools; none where there are none."""
    if not request.tools:
        return {}
    choice = request.tool_choice
    chosen: dict[str, Any] = {"type": CHOICES.get(choice, "tool")}
    if choice not in CHOICES:
        chosen["name"] = choice
    if not request.parallel_tool_calls and choice != "none":
        chosen["disable_parallel_tool_use"] = True
    fields: dict[str, Any] = {"tools": [_tool(tool) for tool in request.tools]}
    return fields if chosen == {"type": "auto"} else fields | {"tool_choice": chosen}


def _tool(tool: Tool) -> Block:
    optional = {"description": tool.description, "strict": tool.strict}
    return {
        "name": tool.name,
        "input_schema": dict(tool.parameters),
        **{name: value for name, value in optional.items() if value},
    }
