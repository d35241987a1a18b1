"""JSON Schemas: what is asked of one before it goes to a model, and whether values follow one."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any

from lmstack.core.errors import InputError, shown

__all__ = ["check_schema", "json_validator"]


def check_schema(name: str, schema: Any, *, param: str | None = None) -> None:
    """`InputError` unless ``schema`` is JSON, and of an object. Whether it can be enforced is for
    the grammar compiler to say."""
    if not isinstance(schema, Mapping):
        raise InputError(f"{name} are {shown(schema)}, not a JSON Schema", param=param)
    if schema.get("type", "object") != "object":
        raise InputError(
            f"{name} have the type {shown(schema['type'])}",
            hint='arguments are an object: {"type": "object", "properties": {...}}',
            param=param,
        )
    try:
        json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} are not JSON: {error}", param=param) from error


@functools.lru_cache(maxsize=4096)
def json_validator(text: str, *, checks_formats: bool = False) -> Any:
    """jsonschema-rs's validator of the JSON Schema ``text``, of any draft that it knows.
    `ValueError`, with the reason in a line, where there can be none: references that lead out of
    the schema are refused, never fetched, and its patterns run in linear time, so they have no
    lookaround. ``checks_formats``: what ``format`` says holds, and a format has to be known."""
    import jsonschema_rs

    options: dict[str, Any] = {"offline": True, "pattern_options": jsonschema_rs.RegexOptions()}
    if checks_formats:
        options |= {"validate_formats": True, "ignore_unknown_formats": False}
    try:
        schema = json.loads(text)
        if not isinstance(schema, dict | bool):
            raise ValueError("a schema is an object")
        return jsonschema_rs.validator_for(schema, **options)
    except (ValueError, RecursionError) as error:  # its ValidationError is a ValueError
        lines = str(error).strip().splitlines()
        raise ValueError(lines[0] if lines else "nested too deep") from error
