"""The parameters of a function: their JSON Schema, and a call's arguments checked and converted.

Covers what pydantic can describe: nested models, dataclasses, TypedDicts, enums, literals, unions,
lists, dicts, dates. Arguments are checked strictly; what JSON has no type for (a date, a set, an
enum) is read from its usual spelling, and what is wrong with them is said in words for a model.
Parameters of the types `Secret` and `ToolContext` are filled in here and are not part of the
schema. A function that leaves anything open is refused.

The schema is pydantic's as a grammar compiler takes it: without what only people or OpenAPI read,
every object closed to names that it does not list, definitions in ``$defs``.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import SchemaError, core_schema

from lmstack.agents.tools.results import Secret
from lmstack.agents.tools.tool import ToolContext
from lmstack.core import InputError, nearest, shown

__all__ = ["Parameters"]

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


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_EMPTY = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameters:
    """``schema``: of the arguments that a model writes. ``secrets``: parameter to the name of its
    secret and whether the function can do without. ``contexts``: parameters that take the
    `ToolContext`."""

    name: str
    schema: dict[str, Any]
    secrets: Mapping[str, tuple[str, bool]]
    contexts: tuple[str, ...]
    _model: type[BaseModel]
    _names: Mapping[str, str]
    _signature: inspect.Signature

    @classmethod
    def of(
        cls, function: Callable[..., Any], name: str, descriptions: Mapping[str, str]
    ) -> Parameters:
        """Of ``function``, the tool ``name``; ``descriptions`` of parameters that have none in
        their annotation. `InputError` names the parameter that no schema can be made for."""
        signature, hints = _signature(function, name)
        secrets: dict[str, tuple[str, bool]] = {}
        contexts: list[str] = []
        fields: dict[str, Any] = {}
        names: dict[str, str] = {}
        for each in signature.parameters.values():
            hint = _annotation(each, hints, name)
            if (secret := _secret(hint, each)) is not None:
                secrets[each.name] = secret
            elif _bare(hint) is ToolContext:
                contexts.append(each.name)
            else:
                # Any name is a parameter's, but not a field's: the field has one of its own.
                field = f"argument_{len(names)}"
                names[field] = each.name
                fields[field] = _field(each, hint, descriptions.get(each.name), name)
        model: Any = create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)
        schema = plain_schema(model.model_json_schema(schema_generator=PlainSchema))
        schema = {"type": "object", "properties": {}, "additionalProperties": False, **schema}
        return cls(name, schema, secrets, tuple(contexts), model, names, signature)

    def bind(
        self, arguments: Mapping[str, Any], context: ToolContext
    ) -> tuple[list[Any], dict[str, Any]]:
        """The positional and named arguments of the function; `InputError` in words for the model
        where ``arguments`` do not fit, or for the user where a secret is missing."""
        values = self._checked(arguments)
        values.update(dict.fromkeys(self.contexts, context))
        for parameter, (secret, optional) in self.secrets.items():
            if secret in context.secrets:
                values[parameter] = Secret(context.secrets[secret])
            elif not optional:
                problem = f"{self.name} needs the secret {shown(secret)}, which is not set"
                raise InputError(problem, hint="ask the user to set it")
        positional = [
            values.pop(each.name, each.default)
            for each in self._signature.parameters.values()
            if each.kind is inspect.Parameter.POSITIONAL_ONLY
        ]
        return positional, values

    def _checked(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(arguments, Mapping):
            raise InputError(f"the arguments are {shown(arguments)}, not an object")
        try:
            text = json.dumps(whole_numbers(arguments), allow_nan=False)
            # Invalid Unicode and numbers that JSON does not have end here too.
            checked = self._model.model_validate_json(text, strict=True, extra="forbid")
        except ValidationError as error:
            raise argument_error(self.name, error, arguments, self.schema) from None
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"the arguments of {self.name} are not JSON: {error}") from error
        given = checked.model_fields_set
        return {
            name: getattr(checked, field) for field, name in self._names.items() if field in given
        }


def _signature(
    function: Callable[..., Any], name: str
) -> tuple[inspect.Signature, Mapping[str, Any]]:
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise InputError(
            f"{shown(function)} is not a function", hint="define one with def or async def"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InputError(f"{name} yields its results", hint="return them as one value")
    try:
        return inspect.signature(function), get_type_hints(function, include_extras=True)
    except NameError as error:
        raise InputError(
            f"an annotation of {name} names what is not there: {error}",
            hint="define or import its types at the top of the module",
        ) from error
    except (TypeError, SyntaxError) as error:
        raise InputError(
            f"the annotations of {name} cannot be read: {error}",
            hint="annotate each parameter with a type",
        ) from error


def _annotation(each: inspect.Parameter, hints: Mapping[str, Any], name: str) -> Any:
    if each.kind in _VARIADIC:
        star = "*" if each.kind is inspect.Parameter.VAR_POSITIONAL else "**"
        raise InputError(
            f"{name} takes {star}{each.name}, for which there is no schema",
            hint="name each parameter",
            param=each.name,
        )
    if each.name not in hints:
        raise InputError(
            f"the parameter {each.name!r} of {name} has no annotation",
            hint=f"write its type: {each.name}: str",
            param=each.name,
        )
    return hints[each.name]


def _bare(hint: Any) -> Any:
    """The type inside of ``Annotated[...]``."""
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _secret(hint: Any, each: inspect.Parameter) -> tuple[str, bool] | None:
    """The name of the secret that a parameter asks for, and whether it is optional."""
    extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    inner = _bare(hint)
    if get_origin(inner) in (typing.Union, types.UnionType):
        options = [_bare(option) for option in get_args(inner)]
        if Secret not in options:
            return None
        if any(option not in (Secret, type(None)) for option in options):
            problem = f"the parameter {each.name!r} is a secret or something else"
            raise InputError(
                problem, hint="annotate it as Secret or Secret | None", param=each.name
            )
    elif inner is not Secret:
        return None
    secret = next((extra for extra in extras if isinstance(extra, str)), each.name)
    return secret, each.default is not _EMPTY


def _field(
    each: inspect.Parameter, hint: Any, described: str | None, name: str
) -> tuple[Any, FieldInfo]:
    """A field for pydantic. Each parameter is tried alone, so that an error can name it."""
    try:
        TypeAdapter(hint).json_schema(schema_generator=PlainSchema)
    except (PydanticUserError, SchemaError, TypeError, NameError) as error:
        reason = " ".join(str(error).split("\n\nFor further information")[0].split())
        raise InputError(
            f"no JSON Schema can be made for the parameter {each.name!r} of {name},"
            f" {shown(hint)}: {reason}",
            hint="use a type that JSON can write",
            param=each.name,
        ) from error
    default = ... if each.default is _EMPTY else each.default
    if isinstance(default, FieldInfo):
        problem = f"the default of the parameter {each.name!r} of {name} is a Field"
        hint_text = "write it into the annotation: Annotated[int, Field(ge=1)]"
        raise InputError(problem, hint=hint_text, param=each.name)
    own = any(isinstance(e, FieldInfo) and e.description for e in get_args(hint)[1:])
    # Not to be named at all where the annotation has one: None would replace it.
    more: dict[str, Any] = {"description": described} if described and not own else {}
    return hint, Field(default=default, alias=each.name, **more)
