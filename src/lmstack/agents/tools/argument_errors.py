"""What is wrong with the arguments of a call, in words that a model can act on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from lmstack.core import InputError, nearest, shown

__all__ = ["argument_error", "whole_numbers"]

MAX_ERRORS = 5
# Above it not every whole number is a float of its own.
_EXACT = 2.0**53


def whole_numbers(value: Any) -> Any:
    """JSON values with 5.0 as 5: JSON Schema counts both as integers."""
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    if isinstance(value, Mapping):
        return {key: whole_numbers(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [whole_numbers(each) for each in value]
    return value


def argument_error(
    tool: str, error: ValidationError, arguments: Mapping[str, Any], schema: Mapping[str, Any]
) -> InputError:
    """All that is wrong, each with its place and the value seen, and what the tool takes."""
    found: dict[str, list[str]] = {}
    for each in error.errors(include_url=False, include_context=False):
        place = _place(each["loc"], each["type"], arguments)
        problem = _problem(each, place, schema)
        if problem not in (problems := found.setdefault(place, [])):
            problems.append(problem)
    lines = [
        f"{place or 'the arguments'}: {' or '.join(problems)}" for place, problems in found.items()
    ]
    more = [f"and {len(lines) - MAX_ERRORS} more"] if len(lines) > MAX_ERRORS else []
    text = "; ".join([*lines[:MAX_ERRORS], *more])
    return InputError(f"wrong arguments for {tool}: {text}", hint=_takes(tool, schema))


def _problem(each: Any, place: str, schema: Mapping[str, Any]) -> str:
    if each["type"] == "missing":
        return "is required and missing"
    if each["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        guess = nearest(place, schema["properties"]) if "." not in place else None
        return f"there is no such parameter{f', did you mean {guess!r}?' if guess else ''}"
    message = str(each["msg"]).removeprefix("Value error, ")
    return f"{message[:1].lower()}{message[1:]}, not {shown(each['input'])}"


def _place(loc: Sequence[str | int], kind: str, arguments: Any) -> str:
    """``loc`` as a path through the arguments: pydantic names members of unions in it too."""
    parts: list[str] = []
    here = arguments
    for number, part in enumerate(loc):
        is_last = number == len(loc) - 1
        if isinstance(here, Mapping) and part in here:
            here = here[str(part)]
        elif isinstance(here, list) and isinstance(part, int) and part < len(here):
            here = here[part]
        elif not (is_last and kind == "missing"):
            continue
        parts.append(str(part))
    return ".".join(parts)


def _takes(tool: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    parameters = [
        f"{name} ({_kind(each)}{'' if name in required else ', optional'})"
        for name, each in schema["properties"].items()
    ]
    return f"{tool} takes {', '.join(parameters) or 'no arguments'}"


def _kind(schema: Mapping[str, Any]) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(each) for each in schema["anyOf"]))
    if "enum" in schema:
        return "one of " + ", ".join(shown(value) for value in schema["enum"][:20])
    if "const" in schema:
        return shown(schema["const"])
    return str(schema.get("type", "object" if "$ref" in schema else "any value"))
