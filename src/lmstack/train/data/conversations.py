"""The turns of a conversation, as data sets write them.

Covers the roles of ShareGPT and its kin, contents in parts, and tools and their calls as OpenAI's
API writes them. Does not cover which columns hold a conversation (`formats`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmstack.core import InputError, Message, Tool, ToolCall, shown
from lmstack.core.json_text import parse_json

__all__ = ["conversation", "role_of", "tools_in"]

# Templates render a conversation whole, again for each prefix; no model reads so many turns.
MAX_TURNS = 10_000

# Names that the field's data sets give the roles of a conversation, ShareGPT's first.
_ROLES = {
    **{"human": "user", "gpt": "assistant", "observation": "tool"},
    **{"bot": "assistant", "model": "assistant", "function_response": "tool"},
}
_TOOL = 'tools: [{"name": "now", "description": "The time.", "parameters": {"type": "object"}}]'


def conversation(turns: Any, column: str) -> list[Message]:
    """The messages of ``turns``; `InputError` for what is none. ``column``: where they stand."""
    if not isinstance(turns, list) or not turns:
        raise InputError(f"{column} is {shown(turns)}, not a list of turns")
    if len(turns) > MAX_TURNS:
        raise InputError(f"{column} has {len(turns):,} turns, at most {MAX_TURNS:,}")
    return [_message(turn) for turn in turns]


def role_of(turn: Any) -> Any:
    """The role of a turn by the name that we give it; None where it says none."""
    role = turn.get("role", turn.get("from")) if isinstance(turn, Mapping) else None
    return _ROLES.get(role, role) if isinstance(role, str) else None


def _message(turn: Any) -> Message:
    if not isinstance(turn, Mapping):
        raise InputError(f"a turn is {shown(turn)}, not an object")
    role = role_of(turn)
    calls = _calls(turn.get("tool_calls"))
    content = _content(turn.get("content", turn.get("value")))
    if content is None and calls:
        content = ""
    if role is None or content is None:
        raise InputError(f"a turn is {shown(dict(turn))}", hint="it needs a role and a content")
    name, answers = turn.get("name"), turn.get("tool_call_id")
    return Message(role, content, name=name, tool_calls=calls, tool_call_id=answers)


def _content(value: Any) -> str | None:
    """Text; or as OpenAI's API writes it, parts that are text."""
    if not isinstance(value, list):
        return value if isinstance(value, str) else None
    texts = []
    for part in value:
        text = part.get("text") if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise InputError(f"a part of a turn is {shown(part)}, not text")
        texts.append(text)
    return "".join(texts)


def _calls(value: Any) -> tuple[ToolCall, ...]:
    """``tool_calls`` of OpenAI's API; arguments are JSON text, or what such text says."""
    found = []
    if value is not None and not isinstance(value, list):
        raise InputError(f"tool_calls is {shown(value)}, not a list")
    for call in value or ():
        outer = call if isinstance(call, Mapping) else {}
        function = outer.get("function", outer)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str):
            raise InputError(
                f"a tool call is {shown(call)}", hint="it needs a function with a name"
            )
        written = function.get("arguments", {})
        if not isinstance(written, str):
            written = json.dumps(written, ensure_ascii=False)
        found.append(ToolCall(str(outer.get("id", "")), name, written))
    return tuple(found)


def tools_in(value: Any) -> tuple[Tool, ...]:
    """``tools`` of OpenAI's API, or without the ``function`` around each; a list, or its JSON
    text. `InputError` for anything else."""
    try:  # both through text, which bounds how deep a schema goes
        given = parse_json(value if isinstance(value, str) else json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        given = None
    if not isinstance(given, list):
        raise InputError(f"tools is {shown(value)}, not a list", hint=_TOOL)
    tools = tuple(map(_tool, given))
    names = [tool.name for tool in tools]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two tools have the name {shown(name)}", hint="leave one out")
    return tools


def _tool(value: Any) -> Tool:
    inner = value.get("function", value) if isinstance(value, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise InputError(f"a tool is {shown(value)}", hint=_TOOL)
    parameters = inner.get("parameters")
    given = {} if parameters is None else {"parameters": parameters}
    return Tool(inner["name"], inner.get("description") or "", **given)
