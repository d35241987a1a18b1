"""Schemas of types: what a grammar compiler takes, and the same values as pydantic."""

from __future__ import annotations

import datetime
import enum
import json
from typing import Annotated, Any, Literal

import jsonschema
import pytest
from llguidance import LLMatcher
from pydantic import BaseModel, Field, TypeAdapter
from tests.errors import about

from lmstack.core import InputError
from lmstack.core.schemas import check_keywords
from lmstack.prompting import type_schema
from lmstack.prompting.schemas import _inlined


class Colour(enum.Enum):
    red = "red"
    blue = "blue"


class Part(BaseModel):
    colour: Colour = Field(description="of its outside")
    size: float | None = None


class Node(BaseModel):
    title: str
    children: list[Node] = []
    part: Part | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    node: Node


class Dog(BaseModel):
    kind: Literal["dog"]
    since: datetime.date


Animal = Annotated[Cat | Dog, Field(discriminator="kind")]


class Ping(BaseModel):
    pong: Pong | None


class Pong(BaseModel):
    ping: Ping | None


class Anything(BaseModel, extra="allow"):
    a: int


def schema_of(kind: Any) -> dict[str, Any]:
    return type_schema(TypeAdapter(kind), "it")


def test_definitions_stand_where_they_are_used_and_nothing_else_is_left() -> None:
    assert schema_of(list[Part]) == {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {
                "colour": {
                    "type": "string",
                    "enum": ["red", "blue"],
                    "description": "of its outside",
                },
                "size": {"anyOf": [{"type": "number"}, {"type": "null"}]},
            },
            "required": ["colour", "size"],
            "additionalProperties": False,
        },
    }


def test_a_definition_that_leads_back_to_itself_stays_one() -> None:
    schema = schema_of(Node)
    assert list(schema["$defs"]) == ["Node"]
    assert schema["$ref"] == "#/$defs/Node"
    node = schema["$defs"]["Node"]
    assert node["properties"]["children"]["items"] == {"$ref": "#/$defs/Node"}
    assert "title" in node["properties"]  # a field of that name, not the annotation
    assert "$ref" not in json.dumps(node["properties"]["part"])
    assert sorted(schema_of(Ping)["$defs"]) == ["Ping", "Pong"]


def test_variants_that_a_tag_tells_apart_are_any_of_them() -> None:
    schema = schema_of(Animal)
    assert "oneOf" not in schema
    assert [each["properties"]["kind"]["const"] for each in schema["anyOf"]] == ["cat", "dog"]


class Narrowed(BaseModel):
    part: Annotated[Part, Field(json_schema_extra={"minProperties": 2})]


def test_what_is_said_about_a_use_of_a_definition_stands_beside_it() -> None:
    about = {"title": "a", "description": "b", "default": 1, "example": 2, "examples": [3]}
    about |= {"deprecated": True}
    schema = {"properties": {"n": {"$ref": "#/$defs/N", **about}}, "$defs": {"N": {"type": "null"}}}
    assert _inlined(schema) == {"properties": {"n": {"type": "null", **about}}}


def test_a_definition_that_is_narrowed_where_it_is_used_stays_one() -> None:
    schema = schema_of(Narrowed)
    assert schema["properties"]["part"] == {"$ref": "#/$defs/Part", "minProperties": 2}
    assert list(schema["$defs"]) == ["Part"]
    assert "$ref" not in str(schema["$defs"])


def test_a_class_that_takes_more_may_get_more() -> None:
    assert schema_of(Anything)["additionalProperties"] is True


def test_what_would_unfold_without_end_stays_definitions() -> None:
    kind: Any = int
    for n in range(12):
        kind = type(f"Level{n}", (BaseModel,), {"__annotations__": {"a": kind, "b": kind}})
    schema = schema_of(kind)
    assert len(json.dumps(schema)) < 5000
    assert schema["$defs"]


@pytest.mark.parametrize(
    "kind",
    [
        *(Part, Node, Animal, Ping, Anything, int, str, bool, list[int], tuple[int, str]),
        *(dict[str, int], Colour, Literal["a", 1], int | str, datetime.datetime, list[Animal]),
    ],
)
def test_the_grammar_compiler_takes_it_without_a_warning(kind: Any) -> None:
    schema = schema_of(kind)
    check_keywords(schema)
    jsonschema.Draft202012Validator.check_schema(schema)
    grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema))
    is_error, messages = LLMatcher.validate_grammar_with_warnings(grammar, None)
    assert (is_error, messages) == (False, [])


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Node, {"title": "a", "children": [{"title": "b", "children": [], "part": None}]}),
        (Part, {"colour": "green", "size": 1}),
        (Part, {"colour": "red", "size": "big"}),
        (Animal, {"kind": "dog", "since": "2020-01-01"}),
        (Animal, {"kind": "dog", "since": "soon"}),
        (Animal, {"kind": "cow"}),
        (Ping, {"pong": {"ping": {"pong": None}}}),
        (Ping, {"pong": {"ping": 1}}),
    ],
)
def test_what_the_schema_allows_is_what_pydantic_reads(kind: Any, value: Any) -> None:
    checker = jsonschema.Draft202012Validator.FORMAT_CHECKER
    validator = jsonschema.Draft202012Validator(schema_of(kind), format_checker=checker)
    try:
        read = TypeAdapter(kind).dump_python(TypeAdapter(kind).validate_python(value), mode="json")
    except ValueError:
        assert not validator.is_valid(value)
    else:  # with the fields that were left out, which have to come
        assert validator.is_valid(read)


@pytest.mark.parametrize(
    ("schema", "named", "hint"),
    [
        ({"minLenght": 3}, "'minLenght'", "did you mean 'minLength'?"),
        ({"properties": {"minLenght": {"requird": []}}}, "'requird' at properties/minLenght", None),
        ({"anyOf": [{}, {"items": {"foo": 1}}]}, "'foo' at anyOf/1/items", "leave it out"),
        ({"nullable": True}, "'nullable'", '{"type": "null"}'),
        ({"$defs": {"A": {"typ": "string"}}}, "'typ' at $defs/A", None),
    ],
)
def test_a_keyword_that_there_is_not_is_named(schema: Any, named: str, hint: str | None) -> None:
    with pytest.raises(InputError, check=about("response_format")) as caught:
        check_keywords(schema)
    assert named in caught.value.message
    assert (hint or "") in str(caught.value.hint)


def test_names_and_data_are_not_keywords() -> None:
    check_keywords(
        {
            "properties": {"foo": True, "if": {"const": {"bar": 1}}},
            "patternProperties": {"^x": {"default": {"baz": 1}}},
            "dependentSchemas": {"foo": {"enum": [{"a": 1}]}},
            "examples": [{"q": 1}],
            "x-anything": {"z": 1},
            "items": [{"title": "old drafts"}],
        }
    )
