"""The parameters of a function: their JSON Schema, and a call's arguments checked and converted.

Covers what pydantic can describe: nested models, dataclasses, TypedDicts, enums, literals, unions,
lists, dicts, dates. Arguments are checked strictly; what JSON has no type for (a date, a set, an
enum) is read from its usual spelling. Parameters of the types `Secret` and `ToolContext` are filled
in here and are not part of the schema. A function that leaves anything open is refused.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic_core import SchemaError

from lmstack.agents.tools.argument_errors import argument_error, whole_numbers
from lmstack.agents.tools.plain_schema import PlainSchema, plain_schema
from lmstack.agents.tools.secret import Secret
from lmstack.agents.tools.tool import ToolContext
from lmstack.core import InputError, shown

__all__ = ["Parameters"]

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
