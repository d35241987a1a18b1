"""Regular expressions that the grammar compiler would take for others.

llguidance checks the syntax of expressions, but drops a backslash at the end of one: ``^a\\`` is
compiled as ``^a``. Covers expressions by themselves and those in JSON Schemas. Does not cover
Lark grammars, in which an expression cannot end so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lmstack.core import Grammar, InputError, shown

__all__ = ["check_expression", "check_expressions"]

# Their keys are names or expressions, and only their values are schemas.
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
# Their values are data, whatever it looks like.
_DATA = ("const", "enum", "default", "examples")


def check_expression(pattern: str, param: str) -> None:
    """`InputError` where ``pattern`` ends with a backslash that escapes nothing."""
    if (len(pattern) - len(pattern.rstrip("\\"))) % 2:
        raise InputError(
            f"the pattern {shown(pattern)} is not a regular expression: it ends with a backslash "
            "that escapes nothing",
            hint="write two backslashes for one, or remove it",
            param=param,
        )


def check_expressions(grammar: Grammar) -> None:
    """`check_expression` for each one in ``grammar``."""
    if grammar.kind == "regex":
        check_expression(grammar.source, "response_format")
    elif grammar.kind == "json_schema":
        for pattern in _patterns(json.loads(grammar.source)):
            check_expression(pattern, "response_format")


def _patterns(schema: Any) -> Iterator[str]:
    if isinstance(schema, list):
        for each in schema:
            yield from _patterns(each)
    if not isinstance(schema, dict):
        return
    for key, value in schema.items():
        if key == "pattern" and isinstance(value, str):
            yield value
        elif key in _NAMED and isinstance(value, dict):
            yield from value if key == "patternProperties" else ()
            yield from _patterns(list(value.values()))
        elif key not in _DATA:
            yield from _patterns(value)
