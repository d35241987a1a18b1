"""JSON Schemas for answers: of Python types by pydantic, and of what others wrote.

A type's schema is made for writing, not for reading: every field has to come, no others may,
definitions stand where they are used unless they are recursive, and what says nothing about a value
(titles, defaults) is left out. OpenAI's SDK does the same, and grammar compilers take it. Which
keywords a model can be held to is for its engine or provider to say, and it names the keyword.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from lmstack.core import InputError
from lmstack.core.schemas import schema_parts

__all__ = ["type_schema"]

# They say nothing about the value, so they may move to where a definition is used.
_ABOUT = frozenset(("title", "description", "default", "example", "examples", "deprecated"))
_DROPPED = ("title", "default", "discriminator")
_MOST_INLINED = 500

Schema = dict[str, Any]


def type_schema(adapter: Any, name: str) -> Schema:
    """What ``adapter``, a pydantic `TypeAdapter`, can read, as a schema to write by."""
    from pydantic.errors import PydanticUserError

    try:
        schema = adapter.json_schema()
    except PydanticUserError as error:
        raise InputError(
            f"{name} has no JSON Schema: {str(error).splitlines()[0]}",
            hint="use types that JSON has",
            param="form",
        ) from error
    return _inlined(_rewritten(schema, _strict))


def _rewritten(schema: Any, change: Callable[[Schema], Schema]) -> Any:
    """A copy with ``change`` made to every schema in it, the inner ones first."""
    if not isinstance(schema, Mapping):
        return schema
    copy = dict(schema)
    for (keyword, *below), inner in schema_parts(schema):
        changed = _rewritten(inner, change)
        if not below:
            copy[keyword] = changed
            continue
        if copy[keyword] is schema[keyword]:
            copy[keyword] = _copied(schema[keyword])
        copy[keyword][below[0]] = changed
    return change(copy)


def _copied(inside: Any) -> Any:
    return dict(inside) if isinstance(inside, Mapping) else list(inside)


def _strict(schema: Schema) -> Schema:
    """Every field has to come and no others may. Variants that a tag tells apart are any of them:
    no value is of two."""
    found = {key: value for key, value in schema.items() if key not in _DROPPED}
    if "discriminator" in schema and "oneOf" in found:
        found["anyOf"] = found.pop("oneOf")
    if "properties" in found:
        found["required"] = list(found["properties"])
        found.setdefault("additionalProperties", False)
    return found


def _inlined(schema: Schema) -> Schema:
    """``schema`` with its definitions where they are used. Those that lead back to themselves, or
    that are narrowed where they are used, stay definitions; all do where it would be long, since
    a definition may stand in many places."""
    definitions = schema.get("$defs", {})
    recursive = {name for name in definitions if _leads_to(name, definitions)}
    left = _MOST_INLINED

    def resolve(part: Schema) -> Schema:
        nonlocal left
        name = _named(part.get("$ref"))
        others = part.keys() - {"$ref"}
        if name not in definitions or name in recursive or not others <= _ABOUT:
            return part
        left -= 1
        if left < 0:
            raise OverflowError
        inner = _rewritten(definitions[name], resolve)
        return {**inner, **{key: part[key] for key in others}}

    kept: dict[str, Any] = {}
    try:
        found: Schema = _rewritten({k: v for k, v in schema.items() if k != "$defs"}, resolve)
        needed = list(_references(found))
        while needed:
            name = needed.pop()
            if name in definitions and name not in kept:
                kept[name] = _rewritten(definitions[name], resolve)
                needed += _references(kept[name])
    except OverflowError:
        return schema
    return {**found, "$defs": kept} if kept else found


def _leads_to(name: str, definitions: Mapping[str, Any]) -> bool:
    """Whether a definition refers to itself, by others perhaps."""
    seen: set[str] = set()
    left = [name]
    while left:
        for other in _references(definitions.get(left.pop())):
            if other == name:
                return True
            if other not in seen:
                seen.add(other)
                left.append(other)
    return False


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, Mapping):
        name = _named(schema.get("$ref"))
        if name is not None:
            yield name
        for _, inner in schema_parts(schema):
            yield from _references(inner)


def _named(reference: Any) -> str | None:
    if not isinstance(reference, str) or not reference.startswith("#/$defs/"):
        return None
    return reference.removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
