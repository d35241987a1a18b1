"""The arguments of a call: from the text that a model wrote to values that follow the schema.

JSON is RFC 8259's, strictly: no NaN, no name twice in an object, no half surrogate pairs, at most
100 levels deep, so that what a person approves is what the tool is given. References that lead out
of a schema are refused, never fetched, and its patterns run in linear time, so they have no
lookaround. Does not cover repairing what is wrong: the model is told, and may call again.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from lmstack.core import InputError, shown

__all__ = ["canonical_json", "check_value_schema", "parsed_json", "problems"]

MAX_DEPTH = 100
MAX_PROBLEMS = 3
MAX_PROBLEM_CHARS = 300


def parsed_json(text: str) -> Any:
    """The value of ``text``; `ValueError` that says what is wrong."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair") from None
    if _depth(value) > MAX_DEPTH:
        raise ValueError("nested too deep")
    return value


def canonical_json(value: Any) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def problems(schema: Mapping[str, Any], value: Any) -> list[str]:
    """Where ``value`` does not follow ``schema``: at most three, in words for a model."""
    errors = []
    for error in _validator(canonical_json(schema)).iter_errors(value):
        place = "/".join(map(str, error.instance_path))
        text = f"{place}: {error.message}" if place else str(error.message)
        errors.append(text[:MAX_PROBLEM_CHARS])
        if len(errors) == MAX_PROBLEMS:
            break
    return errors


def check_value_schema(name: str, schema: Mapping[str, Any]) -> None:
    """`InputError` unless values can be held to ``schema``."""
    try:
        _validator(canonical_json(schema))
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).strip().partition("\n")[0] or "nested too deep"
        raise InputError(
            f"the JSON Schema of {name} cannot be used: {shown(reason, 200)}",
            hint="leave out references that lead out of it, and lookaround in patterns",
            param="tools",
        ) from None


@functools.lru_cache(maxsize=1024)
def _validator(text: str) -> Any:
    options = jsonschema_rs.RegexOptions()
    return jsonschema_rs.validator_for(json.loads(text), offline=True, pattern_options=options)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shown(twice)} is twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list)
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth
