"""The kinds of field that request bodies are made of.

A field of OpenAI's schema is honoured, or `Refused` with a reason unless its value asks for
nothing; a name outside the schema is an error that suggests the nearest one. Covers validation
and the honest JSON Schema of each kind. Does not cover what the fields mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, LiteralString

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    FailFast,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    model_validator,
)
from pydantic_core import PydanticCustomError, core_schema

from lmstack.core import nearest, shown

__all__ = [
    "AnyTokenIds",
    "Body",
    "FirstMistake",
    "Hint",
    "ModelName",
    "Returned",
    "StopStrings",
    "Texts",
    "TokenIds",
    "Whole",
    "about",
    "at_most",
    "kinds",
    "known_kinds",
    "problem",
    "refused",
    "text_up_to",
    "unsupported",
]


def unsupported(
    reason: str, *fields: str, kind: LiteralString = "unsupported"
) -> PydanticCustomError:
    """A finding that ``fields`` ask for what this server does not do. ``kind``: one of those that
    errors have a code of their own for."""
    context = {"reason": reason, "fields": fields, "hint": "leave it out"}
    return PydanticCustomError(kind, "{reason}", context)


def problem(message: str, *fields: str, hint: str | None = None) -> PydanticCustomError:
    """A finding about ``fields`` of the model under validation."""
    context = {"text": message, "fields": fields, "hint": hint}
    return PydanticCustomError("invalid_value", "{text}", context)


class Body(BaseModel):
    """Base of request bodies: JSON types are not converted, unknown names are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_names(cls, data: Any) -> Any:
        if isinstance(data, dict):
            cls.refuse_kind(data)
        known = [field.alias or name for name, field in cls.model_fields.items()]
        for name in data if isinstance(data, dict) else ():
            if name not in known:
                guess = nearest(name[:80], known)
                raise PydanticCustomError(
                    "unknown_field",
                    "this field is not known here",
                    {
                        "fields": (name[:80],),
                        "hint": f"did you mean {guess!r}?"
                        if guess
                        else f"known: {', '.join(known)}",
                    },
                )
        return data

    @classmethod
    def refuse_kind(cls, data: dict[str, Any]) -> None:
        """Raise for a kind of object that is known and not supported, before its fields are
        looked at: they would all seem unknown."""


class Refused:
    """Marks a field that is answered with ``reason`` unless null or one of ``harmless``:

    ``tools: Any = refused("tools are not supported", [])``
    """

    def __init__(self, reason: str, *harmless: Any, kind: LiteralString = "unsupported") -> None:
        self.reason, self._kind = reason, kind
        self.allowed = [None, *harmless]

    def _check(self, value: Any) -> Any:
        if any(value == each and type(value) is type(each) for each in self.allowed):
            return value
        raise unsupported(self.reason, kind=self._kind)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"enum": self.allowed, "description": f"Anything else is refused: {self.reason}."}


def refused(
    reason: str,
    *harmless: Any,
    alias: str | None = None,
    kind: LiteralString = "unsupported",
) -> Any:
    """A field that is `Refused`. ``alias``: its name, where that is a word of Python. ``kind``:
    as of `unsupported`."""
    field: Any = Field(None, alias=alias)
    field.metadata.append(Refused(reason, *harmless, kind=kind))
    return field


def about(text: str | None) -> Any:
    """A field that is None unless stated, and what the API's description says of it."""
    return Field(None, description=text)


def kinds(
    field: str, default: str | None = None, same: Mapping[str, str] | None = None
) -> Discriminator:
    """Tells the members of a union apart by their ``field``. The member for the value ``x`` of
    the field ``type`` has ``Tag("type x")``, which is the name of no field, so that places in
    errors are told from tags. ``same``: values that another's member stands for, too."""

    def tag(value: Any) -> str | None:
        is_body = isinstance(value, dict)
        given = value.get(field, default) if is_body else getattr(value, field, None)
        if not isinstance(given, str):
            return None
        return f"{field} {(same or {}).get(given, given)}"

    return Discriminator(tag)


def known_kinds(
    field: str,
    known: Collection[str],
    refused: Mapping[str, str] | None = None,
    default: str | None = None,
) -> BeforeValidator:
    """Put before such a union: a kind that is known and not supported is refused with its reason,
    any other with those that there are."""

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise problem(f"is {shown(value)}, not an object")
        given = value.get(field, default)
        if isinstance(given, str) and given in (refused or {}):
            raise unsupported((refused or {})[given], field)
        if not isinstance(given, str) or given not in known:
            said = f"is {shown(given)}, not" if field in value else "is missing; it is"
            raise problem(f"{said} {', '.join(known)}", field)
        return value

    return BeforeValidator(check)


def _whole(value: Any) -> Any:
    """JSON Schema's integers include 1.0."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _all_whole(value: Any) -> Any:
    return [_whole(each) for each in value] if isinstance(value, list) else value


def at_most(limit: int) -> BeforeValidator:
    """Refuse a large object before its entries are looked at: each could be an error."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > limit:
            raise problem(f"holds {len(value)} entries, at most {limit} are allowed")
        return value

    return BeforeValidator(check)


def text_up_to(limit: int) -> BeforeValidator:
    """Refuse a text that is too long with the code that one of too many tokens has, and say how
    long it is. ``Annotated[str, Field(max_length=9), text_up_to(9)]``: the first is for the JSON
    Schema."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and len(value) > limit:
            context = {"size": len(value), "limit": limit}
            found = "the text has {size} characters, at most {limit}"
            raise PydanticCustomError("text_too_long", found, context)
        return value

    return BeforeValidator(check)


class FirstMistake(FailFast):
    """pydantic's `FailFast`, which it forgot to make hashable: unions need that."""

    def __hash__(self) -> int:
        return hash(self.fail_fast)


# Written last, so that bounds stay in the JSON Schema: Annotated[int, Field(ge=1), Whole].
Whole = BeforeValidator(_whole)
# Lists stop at their first mistake: a body of a million would cost gigabytes of messages.
AnyTokenIds = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31)]], FirstMistake(), BeforeValidator(_all_whole)
]
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, le=2**31)]],
    Field(min_length=1),
    FirstMistake(),
    BeforeValidator(_all_whole),
]
StopString = Annotated[str, Field(min_length=1, max_length=1024)]
StopStrings = Annotated[
    list[StopString],
    Field(max_length=4),
    FirstMistake(),
    BeforeValidator(
        _listed,
        json_schema_input_type=StopString | Annotated[list[StopString], Field(max_length=4)],
    ),
]


ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Hint = Annotated[
    str | None,
    Field(max_length=512, description="Accepted; it changes nothing here."),
]
# What a client sends back with an answer that it got.
Returned = Annotated[Any, Field(description="Accepted; it changes nothing.")]
Texts = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=16), FirstMistake()
]
