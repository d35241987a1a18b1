"""Random JSON Schemas of the keywords that structured output is asked for with.

Every one can be fulfilled, and every value is bounded, so that a small model comes to an end.
Covers objects within objects, optional properties, arrays, strings with lengths, patterns and
formats, numbers with bounds, enum and const, anyOf, nullable types, $defs with $ref and recursion.
"""

from __future__ import annotations

import random
from typing import Any

__all__ = ["generated"]

Schema = dict[str, Any]
NAMES = (
    *("name", "id", "title", "status", "count", "price", "tags", "address", "email", "notes"),
    *("größe", "first name", "is_open", "created_at", "x", "items", "owner", "score", "名前"),
)
WORDS = ("red", "open", "closed", "small", "Ärger", 'a "quote"', "two words", "back\\slash", "7")
PATTERNS = ("^[A-Z]{2}[0-9]{4}$", "^[a-z]+(-[a-z]+){0,2}$", "^(yes|no)$", "^#[0-9a-f]{6}$")
FORMATS = ("date", "time", "date-time", "uuid", "ipv4", "email")
DEPTH = 3


def generated(count: int, seed: int = 0) -> list[Schema]:
    draw = random.Random(seed)
    return [_document(draw) for _ in range(count)]


def _document(draw: random.Random) -> Schema:
    definitions: dict[str, Schema] = {}
    if draw.random() < 0.2:
        definitions["part"] = _object(draw, DEPTH - 1, ())
    if draw.random() < 0.05:
        node = {
            "type": "object",
            "properties": {
                "value": {"type": "integer", "minimum": 0, "maximum": 9},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "next"],
            "additionalProperties": False,
        }
        definitions["node"] = node
    schema = _object(draw, 0, tuple(definitions))
    return {**schema, "$defs": definitions} if definitions else schema


def _object(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    keys = draw.sample(NAMES, draw.randint(1, 5 - depth))
    required = [key for key in keys if draw.random() < 0.7] or keys[:1]
    return {
        "type": "object",
        "properties": {key: _value(draw, depth + 1, names) for key in keys},
        "required": required,
        "additionalProperties": False,
    }


def _value(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    if names and draw.random() < 0.2:
        return {"$ref": f"#/$defs/{draw.choice(names)}"}
    simple = (_string, _string, _number, _boolean, _enum, _const)
    nested = () if depth >= DEPTH else (_array, _any_of, _nested, _nullable)
    make = draw.choice((*simple, *nested))
    return make(draw, depth, names)


def _string(draw: random.Random, *_: Any) -> Schema:
    kind = draw.random()
    if kind < 0.5:
        return {"type": "string", "minLength": draw.randint(0, 2), "maxLength": draw.randint(2, 30)}
    if kind < 0.75:
        return {"type": "string", "pattern": draw.choice(PATTERNS), "maxLength": 40}
    return {"type": "string", "format": draw.choice(FORMATS), "maxLength": 60}


def _number(draw: random.Random, *_: Any) -> Schema:
    low = draw.randint(-50, 50)
    if draw.random() < 0.7:
        return {"type": "integer", "minimum": low, "maximum": low + draw.randint(0, 1000)}
    return {"type": "number", "minimum": low, "exclusiveMaximum": low + draw.randint(1, 100)}


def _boolean(*_: Any) -> Schema:
    return {"type": "boolean"}


def _enum(draw: random.Random, *_: Any) -> Schema:
    options: list[Any] = [*draw.sample(WORDS, draw.randint(1, 4))]
    if draw.random() < 0.2:
        options += [draw.randint(0, 9), None]
    return {"enum": options}


def _const(draw: random.Random, *_: Any) -> Schema:
    return {"const": draw.choice([*WORDS, 1, 2.5, True, None, ["a", 1], {"k": "v"}])}


def _array(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    least = draw.randint(0, 2)
    return {
        "type": "array",
        "items": _value(draw, depth + 1, names),
        "minItems": least,
        "maxItems": least + draw.randint(0, 2),
    }


def _any_of(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    return {"anyOf": [_value(draw, depth + 1, names) for _ in range(draw.randint(2, 3))]}


def _nested(draw: random.Random, depth: int, names: tuple[str, ...]) -> Schema:
    return _object(draw, depth, names)


def _nullable(draw: random.Random, *_: Any) -> Schema:
    return {"type": [draw.choice(("integer", "boolean")), "null"]}
