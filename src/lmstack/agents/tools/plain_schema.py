"""The JSON Schema that a grammar compiler takes, made of the one that pydantic writes.

Covers dropping what only people or OpenAPI read (titles, discriminators, formats that JSON Schema
does not have), and closing every object to names that it does not list. What is left is an object
whose definitions, where there are any, are in ``$defs``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

__all__ = ["PlainSchema", "plain_schema"]

_FORMATS = frozenset(
    ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid")
)
_DROPPED = frozenset(("title", "discriminator", "writeOnly", "readOnly", "uniqueItems", "examples"))
# Keywords whose values are schemas: by names, in a list, or one.
_BY_NAME = ("properties", "$defs", "patternProperties")
_LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE = ("items", "additionalProperties", "contains", "not", "propertyNames")


class PlainSchema(GenerateJsonSchema):
    """pydantic's generator, but that a Decimal is a number: its pattern for text needs
    look-ahead, which no automaton has. Defaults that JSON cannot write are left out. Classes, and
    iterables that would be checked only when somebody goes through them, are no JSON."""

    ignored_warning_kinds = {  # noqa: RUF012 (pydantic's own attribute)
        "skipped-choice",
        "non-serializable-default",
    }

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        number: JsonSchemaValue = {"type": "number"}
        self.update_with_validations(number, schema, self.ValidationsMapping.numeric)
        return number

    def is_subclass_schema(self, schema: core_schema.IsSubclassSchema) -> JsonSchemaValue:
        return self.handle_invalid_for_json_schema(schema, "a class")

    def generator_schema(self, schema: core_schema.GeneratorSchema) -> JsonSchemaValue:
        return self.handle_invalid_for_json_schema(schema, "an iterable: use a list")


def plain_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    """``schema`` in plain form. Every object that lists properties allows no others."""
    plain: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _BY_NAME:
            plain[key] = {name: _sub(each) for name, each in value.items()}
        elif key in _LISTED:
            # Choices with a discriminator differ in a constant: any of them is exactly one.
            plain["anyOf" if key == "oneOf" else key] = [_sub(each) for each in value]
        elif key in _SINGLE:
            plain[key] = _sub(value)
        elif key not in _DROPPED and not (key == "format" and value not in _FORMATS):
            plain[key] = value
    if "properties" in plain:
        plain["additionalProperties"] = False
    return plain


def _sub(schema: Any) -> Any:
    return plain_schema(schema) if isinstance(schema, Mapping) else schema
