"""JSON Schemas: what is asked of one before it goes to a model, and whether values follow one."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.core.config import nearest
from lmstack.core.errors import InputError, shown

__all__ = ["check_keywords", "check_schema", "json_validator", "schema_parts"]

# Where schemas stand in a schema: as values of a mapping, in a list, by themselves.
_IN_MAPPINGS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_IN_LISTS = ("allOf", "anyOf", "oneOf", "prefixItems", "items")
_ALONE = """items additionalItems additionalProperties contains propertyNames not if then else
unevaluatedItems unevaluatedProperties contentSchema""".split()  # noqa: SIM905 - many words
# Of the drafts to 2020-12; in the last line those of OpenAPI, which say nothing about the value.
_NO_SCHEMA = """type enum const required dependentRequired dependencies format minimum maximum
exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern minItems maxItems
uniqueItems minContains maxContains minProperties maxProperties $schema $id id $ref $anchor
$dynamicRef $dynamicAnchor $recursiveRef $recursiveAnchor $vocabulary $comment title description
default example examples deprecated readOnly writeOnly contentEncoding contentMediaType
discriminator externalDocs xml""".split()  # noqa: SIM905
_KEYWORDS = frozenset((*_IN_MAPPINGS, *_IN_LISTS, *_ALONE, *_NO_SCHEMA))
_NULLABLE = 'write {"anyOf": [{...}, {"type": "null"}]}'
Place = tuple[Any, ...]


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


def check_keywords(
    schema: Any, name: str = "the JSON Schema", *, param: str = "response_format"
) -> None:
    """`InputError` that names the first keyword in ``schema`` that there is not: it would constrain
    nothing, and nobody would notice. Annotations of one's own begin with ``x-``."""
    try:
        unknown = next(_unknown(schema, ()), None)
    except RecursionError as error:
        raise InputError(f"{name} is nested too deep", param=param) from error
    if unknown is not None:
        place, keyword = unknown
        where = f" at {'/'.join(map(str, place))}" if place else ""
        guess = nearest(keyword, _KEYWORDS)
        hint = f"did you mean {guess!r}?" if guess else "leave it out, or begin it with x-"
        raise InputError(
            f"{name} has the keyword {shown(keyword)}{where}, which JSON Schema does not know",
            hint=_NULLABLE if keyword == "nullable" else hint,
            param=param,
        )


def _unknown(schema: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if not isinstance(schema, Mapping):
        return
    for keyword in schema:
        if keyword not in _KEYWORDS and not str(keyword).startswith("x-"):
            yield place, str(keyword)
    for step, inner in schema_parts(schema):
        yield from _unknown(inner, (*place, *step))


def schema_parts(schema: Mapping[str, Any]) -> Iterator[tuple[Place, Any]]:
    """The schemas right inside of ``schema``, and where: a keyword, or one and what is below it."""
    for keyword, value in schema.items():
        if keyword in _IN_MAPPINGS and isinstance(value, Mapping):
            yield from (((keyword, name), inner) for name, inner in value.items())
        elif keyword in _IN_LISTS and isinstance(value, list):
            yield from (((keyword, n), inner) for n, inner in enumerate(value))
        elif keyword in _ALONE:
            yield (keyword,), value


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
