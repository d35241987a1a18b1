"""What is compiled in the process that serves cannot cost more than its size says."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from tests.engine.conftest import byte_vocabulary

from lmstack.core import Grammar, InputError
from lmstack.engine.constraints.grammar import GrammarCompiler
from lmstack.engine.constraints.simple import MAX_NODES, is_simple

STRING = {"type": "string"}
PERSON = {
    "title": "Person",
    "type": "object",
    "properties": {
        "name": {"type": "string", "title": "Name", "maxLength": 80},
        "code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"},
        "age": {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None},
        "home": {"$ref": "#/$defs/Home", "description": "where"},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1},
    },
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"Home": {"type": "object", "properties": {"city": STRING}}},
}


@pytest.mark.parametrize(
    "schema",
    [
        PERSON,
        True,
        {},
        {"x-guidance": {"whitespace_flexible": False}, "type": "object"},
        {"type": "object", "additionalProperties": {"type": "number", "minimum": 0}},
    ],
)
def test_ordinary_schemas_are_compiled_here(schema: object) -> None:
    assert is_simple(Grammar("json_schema", json.dumps(schema)))


@pytest.mark.parametrize(
    "schema",
    [
        {"allOf": [STRING]},
        {"oneOf": [STRING, {"type": "null"}]},
        {"not": STRING},
        {"if": {}, "then": {}},
        {"patternProperties": {"^a": {}}},
        {"type": "string", "format": "email"},
        {"type": "string", "pattern": "a", "maxLength": 3},
        {"type": "string", "pattern": "a", "enum": ["a"]},
        {"type": "string", "pattern": "(a{200}){200}"},
        {"type": "string", "pattern": "\\p{L}"},
        {"type": "string", "maxLength": 10_000_000},
        {"type": "string", "maxLength": "9"},
        {"anyOf": [STRING], "type": "string"},
        {"$ref": "#/$defs/a", "pattern": "a", "$defs": {"a": STRING}},
        {"type": "integer", "multipleOf": 7},
        {"properties": {"a": {"allOf": [{}]}}},
        {"$defs": {"a": {"allOf": [{}]}}},
        {"items": {"allOf": [{}]}},
        {"additionalProperties": {"allOf": [{}]}},
        {"anyOf": [{"allOf": [{}]}]},
        {"minItems": 257},
        {"minItems": "1"},
        {"minItems": 17, "items": {"minItems": 17, "type": "array"}},
        {"properties": {str(n): {} for n in range(MAX_NODES)}},
        {"enum": list(range(MAX_NODES))},
        {"enum": 3},
        {"properties": 3},
        {"anyOf": 3},
        {"items": [STRING]},
        {"x-guidance": {"whitespace_pattern": "a{9}"}},
        {"x-guidance": {"item_separator": ",x{99999}"}},
        {"description": "a" * 9000},
    ],
)
def test_what_may_intersect_or_repeat_is_compiled_elsewhere(schema: object) -> None:
    assert not is_simple(Grammar("json_schema", json.dumps(schema)))


@pytest.mark.parametrize("source", ["{", "[" * 5000, '{"a": '])
def test_what_cannot_be_read_is_not_simple(source: str) -> None:
    assert not is_simple(Grammar("json_schema", source))


@pytest.mark.parametrize(
    ("source", "simple"),
    [
        ("[ab]{3}(é|/)x*y", True),
        ("a{2,}b{1,9}", True),
        ("a" * 2048, True),
        ("a" * 2049, False),
        ("x{1000000}", False),
        ("x{1000000,}", False),
        ("x{0,1000000}", False),
        ("(x{99}){99}", False),
        ("x{0}" * 3 + "y{9999}", False),
        ("\\p{L}", False),
        ("x{ 9999999 }", False),
    ],
)
def test_expressions_are_compiled_here_if_they_are_short_when_written_out(
    source: str, simple: bool
) -> None:
    assert is_simple(Grammar("regex", source)) is simple


def test_lark_grammars_are_compiled_elsewhere() -> None:
    assert not is_simple(Grammar("lark", 'start: "a"'))


# Each found by looking for the most work that a grammar can ask for and still be simple.
@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("regex", "a?" * 40 + "(.*a......|.*b.....|.*[ae].)*"),
        Grammar("regex", r"(\w?)" * 400),
        Grammar("regex", "(a|b)*a" + "(a|b)" * 400),
        Grammar("regex", "(" + "x" * 55 + "){250}"),
        Grammar.json_schema({"properties": {f"p{n}": {} for n in range(140)}}),
        Grammar.json_schema({"enum": [f"{n:030}" for n in range(220)]}),
    ],
    ids=["states", "classes", "subsets", "forced", "properties", "enum"],
)
def test_a_simple_grammar_takes_little_time_at_any_step(grammar: Grammar) -> None:
    assert is_simple(grammar)
    compiler = GrammarCompiler(byte_vocabulary(), 1 << 20)
    start = time.process_time()
    matcher = compiler.compile(grammar)
    with contextlib.suppress(InputError):  # llguidance's limits hold
        for byte in b"abaabbabaa":
            matcher.mask(len(byte_vocabulary()))
            if not matcher.admits([byte]):
                break
            matcher.accept(byte)
    assert time.process_time() - start < 1
