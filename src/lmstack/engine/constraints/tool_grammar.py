"""The grammar of an answer that may call tools, or has to.

Text until a call begins, then calls in the model's own format, with arguments by each tool's
schema. Covers arguments as one JSON object and one by one between tags. Does not cover what the
format of a model is, which arrives as `ToolGrammar`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from lmstack.core import Grammar, InputError, shown

__all__ = ["MAX_CALLS", "Piece", "ToolGrammar", "closed", "lark_of"]

# A fixed text: strings, and control tokens by their ids.
Piece = tuple[str | int, ...]
# Of one answer. A small model that has to call goes on calling until its budget is spent.
MAX_CALLS = 16
_ANY = r"/(.|\n)*/"


@dataclass(frozen=True)
class ToolGrammar:
    """``lead`` to ``end_of_many``: what stands around names and arguments, see
    `text.calls.CallFormat`. ``separators``: of JSON arguments; or ``tags``: what stands before a
    key, between it and its value, and after that. ``names``: how True, False and None are written
    between tags. ``ids``: of the calls, in order, where the model writes them. ``tools``: name and
    JSON Schema of each. ``required``: the answer is calls and nothing else. ``max_calls``: at most
    so many."""

    lead: Piece
    name_end: Piece
    end: Piece
    tools: tuple[tuple[str, Mapping[str, Any]], ...]
    required: bool
    max_calls: int
    between: Piece = ()
    end_of_many: Piece | None = None
    opening: Piece = ()
    id_lead: Piece = ()
    ids: tuple[str, ...] = ()
    separators: tuple[str, str] | None = None
    tags: tuple[Piece, Piece, Piece] = ((), (), ())
    names: tuple[str, str, str] = ("true", "false", "null")

    def grammar(self) -> Grammar:
        stated = {field.name: getattr(self, field.name) for field in fields(self)}
        try:
            return Grammar("tool_calls", json.dumps(stated, allow_nan=False))
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"the tools are not JSON: {error}", param="tools") from error

    @classmethod
    def of(cls, source: str) -> ToolGrammar:
        stated = json.loads(source)
        return cls(**stated)


def lark_of(source: str) -> str:
    """In llguidance's dialect."""
    grammar = ToolGrammar.of(source)
    rules = [f"TEXT: {_ANY}", *_answer(grammar), *_calls(grammar)]
    for number, (name, schema) in enumerate(grammar.tools):
        rules += _tool(grammar, f"t{number}", name, schema)
    return "\n".join(["%llguidance {}", *rules])


def _answer(grammar: ToolGrammar) -> list[str]:
    lead = _text(grammar.lead)
    if grammar.required:
        return [f"start: {_text(grammar.opening)} {lead} calls"]
    first, rest = grammar.lead[0], _text(grammar.lead[1:])
    if isinstance(first, int):
        return ["start: TEXT | called", f"called: TEXT {_text([first])} {rest} calls"]
    if first.lstrip()[:1] in ("<", "["):
        # Whatever stands before it is text, so it begins without the white space around it.
        mark = json.dumps(first.lstrip(), ensure_ascii=False)
        return ["start: TEXT | called", f"called: begin {rest} calls", f"begin[lazy]: TEXT {mark}"]
    # What begins like an answer in JSON is a call only where an answer begins.
    other = f"OTHER: TEXT & ~/{_escaped(first)}(.|\\n)*/"
    return ["start: OTHER | called", f"called: {lead} calls", other]


def _calls(grammar: ToolGrammar) -> list[str]:
    end, between = _text(grammar.end), _text(grammar.between)
    many = end if grammar.end_of_many is None else _text(grammar.end_of_many)
    most = min(grammar.max_calls, MAX_CALLS, len(grammar.ids) or MAX_CALLS)
    one = " | ".join(f"t{number}" for number in range(len(grammar.tools)))
    if grammar.ids:
        rules = [
            f"call{place}: ({one}) {_text(grammar.id_lead)} {_text([own_id])}"
            for place, own_id in enumerate(grammar.ids[:most])
        ]
    else:
        rules = [f"call{place}: {one}" for place in range(most)]
    for place in reversed(range(1, most)):
        rules.append(f"after{place}: {between} call{place} {_next(many, place + 1, most)}")
    first = end if most == 1 else f"({end} | after1)"
    return [f"calls: call0 {first}", *rules]


def _next(end: str, place: int, most: int) -> str:
    return end if place == most else f"({end} | after{place})"


def _tool(grammar: ToolGrammar, rule: str, name: str, schema: Mapping[str, Any]) -> list[str]:
    head = f"{json.dumps(name)} {_text(grammar.name_end)}"
    if grammar.separators is None:
        return _tagged(grammar, rule, head, schema)
    item, key = grammar.separators
    stated = {"whitespace_flexible": False, "item_separator": item, "key_separator": key}
    return [f"{rule}: {head} %json {json.dumps({**closed(schema), 'x-guidance': stated})}"]


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Only the properties that are stated, unless others are: a small model would make some up,
    and nobody would know what to do with them."""
    combined = ("allOf", "anyOf", "oneOf", "$ref", "patternProperties", "if", "not")
    found = {"type": "object", **schema}
    if "additionalProperties" not in schema and not any(key in schema for key in combined):
        found = {"properties": {}, **found, "additionalProperties": False}
    return found


def _tagged(grammar: ToolGrammar, rule: str, head: str, schema: Mapping[str, Any]) -> list[str]:
    lead, key_end, value_end = map(_text, grammar.tags)
    required = schema.get("required", ())
    rules, parts = [], []
    for number, (key, of_value) in enumerate(schema.get("properties", {}).items()):
        value = f"{rule}v{number}"
        rules += _value(grammar, value, of_value, value_end, schema)
        part = f"{lead} {json.dumps(key, ensure_ascii=False)} {key_end} {value}"
        parts.append(part if key in required else f"({part})?")
    return [f"{rule}: {head} {' '.join(parts)}", *rules]


def _value(
    grammar: ToolGrammar, rule: str, schema: Any, end: str, root: Mapping[str, Any]
) -> list[str]:
    """A value and what ends it."""
    kind = schema.get("type") if isinstance(schema, dict) else None
    stated = schema.get("enum") if isinstance(schema, dict) else None
    if stated and all(isinstance(each, str) for each in stated):
        options = " | ".join(json.dumps(each, ensure_ascii=False) for each in stated)
        return [f"{rule}: ({options}) {end}"]
    if kind in ("boolean", "null"):
        true, false, null = grammar.names
        options = f'"{null}"' if kind == "null" else f'"{true}" | "{false}"'
        return [f"{rule}: ({options}) {end}"]
    if kind in ("integer", "number", "array", "object"):
        defs = {key: root[key] for key in ("$defs", "definitions") if key in root}
        whole = {**schema, **defs, "x-guidance": {"whitespace_flexible": False}}
        return [f"{rule}: %json {json.dumps(whole)} {end}"]
    return [f"{rule}[lazy]: TEXT {end}"]


def _text(piece: Sequence[str | int]) -> str:
    return " ".join(
        f"<[{part}]>" if isinstance(part, int) else json.dumps(part, ensure_ascii=False)
        for part in piece
        if part != ""
    )


def _escaped(text: str) -> str:
    """``text`` as it stands in a regular expression between slashes."""
    if not text.isprintable():
        raise InputError(f"the format of calls has the text {shown(text)}", param="tools")
    return "".join(f"\\{c}" if not c.isalnum() and c != " " else c for c in text)
