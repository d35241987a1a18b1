"""Which grammars are compiled in this process: those whose cost is bounded by their size.

llguidance's limits count the steps that it takes, and one step has no bound where expressions are
intersected (the 2^n pairings of n patterns) or repeated often (`x{1000000}` is a forced text of a
million characters). So a grammar is simple if it can have neither: a JSON Schema of the keywords
below, a short expression with small counts, calls of tools with such schemas. Everything else is
compiled elsewhere (`isolated`) and enforced as well, so these lists need not be complete.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from lmstack.core import Grammar
from lmstack.engine.constraints.tool_grammar import ToolGrammar

__all__ = ["is_simple"]

MAX_BYTES, MAX_EXPRESSION_BYTES = 8192, 2048
# Schemas, properties and values. What may come after each of n optional properties is a row of 4n.
MAX_NODES = 300
# The product of the items that have to come of arrays within arrays; the length of an expression
# times its counts. A text that is forced may be as long.
MAX_REPEATS, MAX_WRITTEN_OUT = 256, 1 << 14
MAX_CHARACTERS = 10_000
_COUNT = re.compile(r"\{(\d+)(?:,(\d*))?\}")

_ABOUT = frozenset(
    (
        *("title", "description", "default", "example", "examples", "deprecated", "$comment"),
        *("$schema", "readOnly", "writeOnly"),
    )
)
_SIMPLE = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "items", "minItems"),
        *("maxItems", "enum", "const", "minimum", "maximum", "exclusiveMinimum"),
        "exclusiveMaximum",
    )
)
# They are intersected with what stands beside them, but for these.
_ALONE = (
    ("anyOf", frozenset(("anyOf",))),
    ("$ref", frozenset(("$ref",))),
    ("pattern", frozenset(("type", "pattern"))),
    ("minLength", frozenset(("type", "minLength", "maxLength"))),
    ("maxLength", frozenset(("type", "minLength", "maxLength"))),
)
_DEFINITIONS = ("$defs", "definitions")
_GUIDANCE = frozenset(("whitespace_flexible", "item_separator", "key_separator"))


def is_simple(grammar: Grammar) -> bool:
    """Whether compiling ``grammar``, and each step of what comes of it, takes some milliseconds at
    most. Never an error: what cannot be read is not simple."""
    if grammar.kind == "json_object":
        return True
    size = len(grammar.source.encode(errors="replace"))
    if grammar.kind == "regex":
        return _is_short(grammar.source)
    if size > MAX_BYTES:
        return False
    try:
        if grammar.kind == "json_schema":
            return _Count().allows(json.loads(grammar.source))
        if grammar.kind == "tool_calls":
            count = _Count()
            return all(count.allows(schema) for _, schema in ToolGrammar.of(grammar.source).tools)
    except (ValueError, TypeError, RecursionError):
        return False
    return False


class _Count:
    """What the schemas seen so far amount to."""

    def __init__(self) -> None:
        self._nodes, self._repeats, self._characters = 0, 1, 0

    def allows(self, schema: Any) -> bool:
        self._nodes += 1
        if isinstance(schema, bool):
            return self._nodes <= MAX_NODES
        if not isinstance(schema, Mapping):
            return False
        stated = schema.keys() - _ABOUT - set(_DEFINITIONS)
        if guidance := schema.get("x-guidance"):
            is_known = isinstance(guidance, Mapping) and guidance.keys() <= _GUIDANCE
            if not is_known or "{" in json.dumps(list(guidance.values())):
                return False
            stated -= {"x-guidance"}
        beside = next((beside for keyword, beside in _ALONE if keyword in stated), _SIMPLE)
        if not stated <= beside or not self._allows_text(schema):
            return False
        least = schema.get("minItems", 0)
        self._repeats *= max(least, 1) if isinstance(least, int) else MAX_REPEATS + 1
        values = schema.get("enum", [])
        self._nodes += len(values) if isinstance(values, list) else MAX_NODES
        if self._nodes > MAX_NODES or self._repeats > MAX_REPEATS:
            return False
        return all(map(self.allows, _inner(schema)))

    def _allows_text(self, schema: Mapping[str, Any]) -> bool:
        pattern = schema.get("pattern", "")
        self._characters += len(pattern) if isinstance(pattern, str) else MAX_EXPRESSION_BYTES + 1
        longest = [schema.get("minLength", 0), schema.get("maxLength", 0)]
        return (
            self._characters <= MAX_EXPRESSION_BYTES
            and _is_short(pattern)
            and all(isinstance(each, int) and each <= MAX_CHARACTERS for each in longest)
        )


def _is_short(expression: str) -> bool:
    """Also with its counts written out."""
    size = len(expression.encode(errors="replace"))
    counts = _COUNT.findall(expression)
    # Another brace has another meaning.
    if size > MAX_EXPRESSION_BYTES or expression.count("{") != len(counts):
        return False
    most = (max(int(low), int(high or 0), 1) for low, high in counts)
    return size * math.prod(most) <= MAX_WRITTEN_OUT


def _inner(schema: Mapping[str, Any]) -> list[Any]:
    found: list[Any] = []
    for keyword in ("properties", *_DEFINITIONS):
        inner = schema.get(keyword, {})
        found += inner.values() if isinstance(inner, Mapping) else [None]
    found += [schema[key] for key in ("items", "additionalProperties") if key in schema]
    inner = schema.get("anyOf", [])
    return found + (inner if isinstance(inner, list) else [None])
