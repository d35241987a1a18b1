"""The arguments of a call: whether they follow the schema, and one text for equal values.

They are read by `parse_json`, strictly, so that what a person approves is what the tool is given.
Does not cover repairing what is wrong: the model is told, and may call again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmstack.core import InputError, shown
from lmstack.core.schemas import json_validator

__all__ = ["canonical_json", "check_value_schema", "problems"]

MAX_PROBLEMS = 3
MAX_PROBLEM_CHARS = 300


def canonical_json(value: Any) -> str:
    """The same text for equal values."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def problems(schema: Mapping[str, Any], value: Any) -> list[str]:
    """Where ``value`` does not follow ``schema``: at most three, in words for a model."""
    errors = []
    for error in json_validator(canonical_json(schema)).iter_errors(value):
        place = "/".join(map(str, error.instance_path))
        text = f"{place}: {error.message}" if place else str(error.message)
        errors.append(text[:MAX_PROBLEM_CHARS])
        if len(errors) == MAX_PROBLEMS:
            break
    return errors


def check_value_schema(name: str, schema: Mapping[str, Any]) -> None:
    """`InputError` unless values can be held to ``schema``."""
    try:
        json_validator(canonical_json(schema))
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error) or "nested too deep"
        raise InputError(
            f"the JSON Schema of {name} cannot be used: {shown(reason, 200)}",
            hint="leave out references that lead out of it, and lookaround in patterns",
            param="tools",
        ) from None
