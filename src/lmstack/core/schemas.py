"""JSON Schemas of objects: what is asked of one before it goes to a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmstack.core.errors import InputError, shown

__all__ = ["check_schema"]


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
