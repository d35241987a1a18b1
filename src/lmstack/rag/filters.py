"""Conditions on the fields of documents: written by people, judged here, pushed into stores.

Two-valued logic: a condition on a field that a document lacks is false, and `Not` is the exact
complement, so ``!=`` holds for a document without the field. Text compares by code points, so
ISO 8601 dates compare as dates. `check_names` refuses a filter that names what no document has:
it would find nothing, whatever is asked. Covers the language; where filters are applied is
`retrieve`'s and the stores' business.

    format = pdf        date >= 2024-06     tags has budget     path under contracts/2024
    author in ["Ada", "Grace"]
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lmstack.core import InputError, nearest, shown

__all__ = [
    "And",
    "Condition",
    "Fields",
    "Filter",
    "Not",
    "Or",
    "Scalar",
    "Value",
    "all_of",
    "check_names",
    "parse_condition",
    "parse_filter",
]

Scalar = str | int | float | bool
Value = Scalar | tuple[str, ...]
Fields = Mapping[str, Value]
Op = Literal["=", "!=", "<", "<=", ">", ">=", "in", "has", "under"]
MAX_NODES, MAX_LISTED = 200, 1_000
# How many of the names that exist an error gives.
MAX_NAMED = 12
# Fields that hold a path.
PATHS = ("path", "source")
_NAME = r"[A-Za-z_][A-Za-z0-9_.-]*"
# Signs or a word between the name and the value, whether or not they are an `Op`.
_CONDITION = re.compile(rf"\s*({_NAME})(?:\s*([=<>!~:&|]+)|\s+([A-Za-z]+)\b)\s*(.*?)\s*", re.S)
_FORM = f'write it like "format = pdf", with one of {", ".join(get_args(Op))}'
_ORDERS: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Condition:
    """``has``: a list holds the text. ``in``: the value is one of several (a tuple).
    ``under``: the text is a path equal to the value or inside it. A number and a text are never
    equal and have no order."""

    name: str
    op: Op
    value: Value

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise _bad(f"{shown(self.name)} is no field name", "letters, digits, _ . and -")
        if self.op not in get_args(Op):
            raise _bad(f"there is no comparison {shown(self.op)}", _FORM)
        if isinstance(self.value, tuple) != (self.op == "in"):
            raise _bad(
                f"{self.name} {self.op} {shown(str(self.value))}",
                "only `in` takes a list, and it always does",
            )
        if isinstance(self.value, tuple) and len(self.value) > MAX_LISTED:
            raise _bad(
                f"{self.name} in a list of {len(self.value):,}", f"list at most {MAX_LISTED:,}"
            )
        if self.op in ("has", "under") and not isinstance(self.value, str):
            raise _bad(f"{self.name} {self.op} {self.value}", "give a text")

    def matches(self, fields: Fields) -> bool:
        if self.op == "!=":
            return not Condition(self.name, "=", self.value).matches(fields)
        held = fields.get(self.name)
        if held is None:
            return False
        if self.op == "has":
            return isinstance(held, tuple) and self.value in held
        if isinstance(held, tuple):
            return False
        if self.op == "in":
            assert isinstance(self.value, tuple)
            return any(_same(held, one) for one in self.value)
        if self.op == "under":
            folder = str(self.value).rstrip("/")
            return isinstance(held, str) and (held == folder or held.startswith(f"{folder}/"))
        if self.op == "=":
            return _same(held, self.value)
        return _comparable(held, self.value) and _ORDERS[self.op](held, self.value)

    def to_json(self) -> dict[str, Any]:
        value = list(self.value) if isinstance(self.value, tuple) else self.value
        return {"field": self.name, "op": self.op, "value": value}


@dataclass(frozen=True, slots=True)
class And:
    """All of ``parts``; true of everything when there are none."""

    parts: tuple[Filter, ...]

    def matches(self, fields: Fields) -> bool:
        return all(part.matches(fields) for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"all": [part.to_json() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Or:
    """Any of ``parts``; true of nothing when there are none."""

    parts: tuple[Filter, ...]

    def matches(self, fields: Fields) -> bool:
        return any(part.matches(fields) for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"any": [part.to_json() for part in self.parts]}


@dataclass(frozen=True, slots=True)
class Not:
    part: Filter

    def matches(self, fields: Fields) -> bool:
        return not self.part.matches(fields)

    def to_json(self) -> dict[str, Any]:
        return {"not": self.part.to_json()}


Filter = Condition | And | Or | Not


def all_of(*parts: Filter | None) -> Filter | None:
    """The conjunction of those that are given; None for none."""
    given = [part for part in parts if part is not None]
    return given[0] if len(given) == 1 else And(tuple(given)) if given else None


def parse_condition(text: str) -> Condition:
    """``date >= 2024-06`` as people write it. A value in quotes or brackets is read as JSON;
    ``true``, ``false`` and numbers are what they look like; all else is text. `InputError`."""
    match = _CONDITION.fullmatch(text)
    if match is None:
        raise _bad(f"cannot read the filter {shown(text)}", _FORM)
    name, sign, word, raw = match.groups()
    op = sign or word
    if op == "in":
        return _condition(name, op, _list(raw))
    value = raw if op in ("has", "under") and not raw.startswith('"') else _value(raw)
    return _condition(name, op, value)


def parse_filter(data: object) -> Filter:
    """The JSON form: ``{"field", "op", "value"}``, ``{"all": [...]}``, ``{"any": [...]}``,
    ``{"not": {...}}``, or a text for `parse_condition`. `InputError`."""
    budget = [MAX_NODES]
    return _parse(data, budget)


def check_names(
    where: Filter, documents: Collection[Fields], named: Callable[[str], str] = str
) -> None:
    """`InputError` if a condition names a field, a format, a path or a source that none of
    ``documents`` has; of several after ``in`` one is enough. It says which there are, with paths
    as ``named`` gives them."""
    if not documents:
        raise _bad("there is no document to filter", "add some, or wait until they are indexed")
    fields = {name for each in documents for name in each}
    for condition in _conditions(where):
        name, op = condition.name, "=" if condition.op == "!=" else condition.op
        if name not in fields:
            raise _unknown("field", name, fields)
        if name not in ("format", *PATHS) or op not in ("=", "in", "under"):
            continue
        held = {str(each[name]) for each in documents if name in each}
        value = condition.value
        wanted = [str(one) for one in (value if isinstance(value, tuple) else (value,))]
        if op == "under":
            found = any(condition.matches({name: one}) for one in held)
        else:
            found = not held.isdisjoint(wanted)
        if not found:
            told = named if name in PATHS else str
            kind = "file or folder" if name == "path" else name
            raise _unknown(kind, ", ".join(map(told, wanted)), map(told, held))


def _conditions(where: Filter) -> Iterator[Condition]:
    match where:
        case Condition():
            yield where
        case And(parts) | Or(parts):
            for part in parts:
                yield from _conditions(part)
        case Not(part):
            yield from _conditions(part)


def _unknown(kind: str, wanted: str, known: Iterable[str]) -> InputError:
    names = sorted(known)
    ending = [name for name in names if name.endswith(f"/{wanted}")]
    guess = ending[0] if ending else nearest(wanted, names)
    listed = ", ".join(names[:MAX_NAMED])
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    hint = f"did you mean {guess!r}? " if guess else ""
    return _bad(f"the documents have no {kind} {shown(wanted)}", f"{hint}there are: {listed}{more}")


def _parse(data: object, budget: list[int]) -> Filter:
    budget[0] -= 1
    if budget[0] < 0:
        raise _bad("the filter is too large", f"use at most {MAX_NODES} conditions")
    if isinstance(data, str):
        return parse_condition(data)
    if isinstance(data, Mapping):
        keys = set(data)
        if keys == {"field", "op", "value"}:
            return _condition(data["field"], data["op"], data["value"])
        if keys == {"not"}:
            return Not(_parse(data["not"], budget))
        for key, kind in (("all", And), ("any", Or)):
            parts = data.get(key)
            if keys == {key} and isinstance(parts, Sequence) and not isinstance(parts, str):
                return kind(tuple(_parse(part, budget) for part in parts))
    raise _bad(
        f"cannot read the filter {_brief(data)}",
        'give {"field", "op", "value"}, {"all": [...]}, {"any": [...]} or {"not": {...}}',
    )


def _condition(name: object, op: object, value: object) -> Condition:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        value = tuple(value)
    if not isinstance(name, str) or not isinstance(value, str | int | float | bool | tuple):
        raise _bad(f"cannot compare with {_brief(value)}", "give text, a number, or texts")
    if isinstance(value, float) and value != value:
        raise _bad("cannot compare with NaN", "give a number")
    return Condition(name, op, value)  # type: ignore[arg-type]  # it checks itself


def _brief(data: object) -> str:
    """For a message: what is deeply nested has no text."""
    if isinstance(data, Mapping):
        return f"with {shown(', '.join(map(str, list(data)[:5])))}"
    return f"a {type(data).__name__}" if isinstance(data, list | tuple) else shown(str(data))


def _list(raw: str) -> object:
    if raw.startswith("["):
        try:
            return json.loads(raw)
        except (ValueError, RecursionError):
            raise _bad(f"cannot read {shown(raw)}", 'write it like ["a", "b"]') from None
    return [
        str(_value(part)) if part[:1] == '"' else part for part in map(str.strip, raw.split(","))
    ]


def _value(raw: str) -> Scalar:
    if raw.startswith('"'):
        try:
            return str(json.loads(raw))
        except ValueError:
            raise _bad(f"cannot read {shown(raw)}", "close its quotes") from None
    if raw in ("true", "false"):
        return raw == "true"
    if re.fullmatch(r"[+-]?\d{1,18}", raw):
        return int(raw)
    if re.fullmatch(r"[+-]?\d*\.\d+", raw):
        return float(raw)
    return raw


def _same(held: Value, asked: Value) -> bool:
    return _kind(held) == _kind(asked) and held == asked


def _comparable(held: Value, asked: Value) -> bool:
    return _kind(held) == _kind(asked) and not isinstance(held, bool)


def _kind(value: Value) -> type:
    return float if type(value) is int else type(value)


def _bad(message: str, hint: str) -> InputError:
    return InputError(message, hint=hint, param="filter")
