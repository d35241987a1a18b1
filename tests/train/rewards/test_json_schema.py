"""JSON by a schema: what is JSON, what the schema allows, and what an answer cannot do."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.train.rewards.drawn import drawn

from lmstack.core import InputError
from lmstack.train.rewards.json_schema import JsonSchema, parsed_json

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
RIGHT = '{"name": "Ada", "age": 36}'


def score(text: str, schema: Any = SCHEMA, **settings: Any) -> float:
    return JsonSchema(**settings).score([drawn(text, schema=schema)])[0]


@pytest.mark.parametrize(
    "text",
    [
        *(RIGHT, f"\n {RIGHT}\n", f"```json\n{RIGHT}\n```", f"Here:\n```\n{RIGHT}```\nBye."),
        f"```JSON\r\n{RIGHT}\r\n```",
    ],
)
def test_json_that_the_schema_allows_is_right(text: str) -> None:
    assert score(text) == score(text, json.dumps(SCHEMA)) == 1.0
    assert score(text, fenced=False) == float("```" not in text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "Ada", f"Here: {RIGHT}", RIGHT + RIGHT, RIGHT[:-1], "{'name': 'Ada', 'age': 36}"),
        '{"name": "Ada", "age": 36, "age": 36}',
        '{"name": "Ada", "age": NaN}',
        '{"name": "Ada", "age": 1e999}',
        '{"name": "\\ud800", "age": 36}',
        '{"name": "Ada", "age": 36,}',
        '{"name": "Ada", "age": ' + "9" * 5000 + "}",
        "[" * 100_000,
        "[" * 500 + "]" * 500,
        f"```json\n{RIGHT}\n```\n```json\n{RIGHT}\n```",
    ],
)
def test_what_is_no_json_has_nothing_even_where_parsing_counts(text: str) -> None:
    assert score(text, parsed=0.5) == 0.0


@pytest.mark.parametrize(
    "text", ["{}", "[]", "1", '{"name": "Ada", "age": -1}', '{"name": "Ada", "age": "36"}']
)
def test_json_that_the_schema_does_not_allow_has_what_parsing_counts(text: str) -> None:
    assert score(text) == 0.0
    assert score(text, parsed=0.25) == 0.25


def test_no_answer_can_take_more_than_time_in_proportion() -> None:
    """A pattern that hangs a backtracking engine, and a schema that goes down as far as the
    answer does."""
    started = time.process_time()
    assert score('"' + "a" * 50_000 + '!"', {"pattern": "^(a+)+$"}) == 0.0
    assert score("[" * 100 + "]" * 100, {"items": {"$ref": "#"}}) == 1.0
    assert score("[" * 102 + "]" * 102, {"items": {"$ref": "#"}}) == 0.0
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "schema",
    [
        *({"type": "objec"}, [1], "x", "[" * 100_000, {"pattern": "(?=a)b"}, {"$ref": "#/none"}),
        *({"$ref": "http://localhost:1/x.json"}, {"$ref": "file:///etc/passwd"}, {"\ud800": 1}),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_and_nothing_is_fetched(
    schema: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "socket", None)
    with pytest.raises(InputError, match="schema", check=about("schema")):
        JsonSchema().check_row({"schema": schema})


def test_a_row_without_a_schema_names_its_columns() -> None:
    with pytest.raises(
        InputError,
        match="reads the column 'schema', and the row has 'prompt'",
        check=about("schema"),
    ):
        JsonSchema().check_row({"prompt": "x"})


values = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
types = st.sampled_from(["string", "integer", "null", "boolean", "array", "object"])
schemas = st.fixed_dictionaries(
    {},
    optional={
        "type": types | st.lists(types, min_size=1, unique=True),
        "items": st.fixed_dictionaries({"type": types}),
        "minItems": st.integers(0, 3),
        "required": st.lists(st.text(max_size=2), unique=True),
        "enum": st.lists(values, min_size=1, max_size=3),
        "maximum": st.integers(-9, 9),
    },
)


@settings(max_examples=100)
@given(schemas, values)
def test_the_verdict_is_that_of_the_reference_library(schema: Any, value: Any) -> None:
    theirs = jsonschema.Draft202012Validator(schema).is_valid(value)
    assert score(json.dumps(value), schema, fenced=False) == float(theirs)


@given(st.text() | st.text(alphabet='{}[]",:0123456789truefalsn`\\ud\n '))
def test_no_answer_is_an_error(text: str) -> None:
    assert score(text, parsed=0.5) in (0, 0.5, 1)
    try:
        parsed_json(text, fenced=False)
    except ValueError:
        return
    json.loads(text)
