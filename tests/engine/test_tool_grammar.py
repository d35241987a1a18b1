"""The grammar of calls: what a model can write, and what not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from tests.engine.conftest import EOS, byte_vocabulary, generate

from lmstack.core import InputError
from lmstack.engine import MAX_CALLS, GrammarVocabulary, ToolGrammar
from lmstack.engine.constraints.grammar import GrammarCompiler

CONTROL = 300
WEATHER = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
        "exact": {"type": "boolean"},
    },
    "required": ["city"],
}
TOOLS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("weather", WEATHER),
    ("now", {"type": "object", "properties": {}}),
)
WORDS: dict[str, Any] = {
    "lead": ('<tool_call>\n{"name": "',),
    "name_end": ('", "arguments": ',),
    "between": ('}\n</tool_call>\n<tool_call>\n{"name": "',),
    "end": ("}\n</tool_call>",),
    "separators": (", ", ": "),
}
MARKED: dict[str, Any] = {
    "lead": (CONTROL, '[{"name": "'),
    "name_end": ('", "arguments": ',),
    "id_lead": (', "id": "',),
    "ids": ("abcdefgh1", "abcdefgh2"),
    "between": ('"}, {"name": "',),
    "end": ('"}]',),
    "separators": (", ", ": "),
}
BARE: dict[str, Any] = {
    "lead": ('{"name": "',),
    "name_end": ('", "parameters": ',),
    "end": ("}",),
    "separators": (", ", ": "),
}
TAGGED: dict[str, Any] = {
    "lead": ("<tool_call>\n<function=",),
    "name_end": (),
    "between": (">\n</function>\n</tool_call>\n<tool_call>\n<function=",),
    "end": (">\n</function>\n</tool_call>",),
    "tags": ((">\n<parameter=",), (">\n",), ("\n</parameter",)),
    "names": ("True", "False", "None"),
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>'
TAGS = (
    "<tool_call>\n<function=weather>\n<parameter=city>\nNew <York>\n</parameter>\n<parameter=exact>"
    "\nTrue\n</parameter>\n</function>\n</tool_call>"
)


@pytest.fixture(scope="module")
def compiler() -> GrammarCompiler:
    data = [bytes([value]) for value in range(256)] + [b""] * (CONTROL - 255)
    return GrammarCompiler(
        GrammarVocabulary(data, frozenset({299}), frozenset({299, CONTROL})), 10**6
    )


def made(
    form: dict[str, Any], *, required: bool = False, most: int = 4, **more: Any
) -> ToolGrammar:
    return ToolGrammar(**{**form, "tools": TOOLS, **more}, required=required, max_calls=most)


def admits(compiler: GrammarCompiler, grammar: ToolGrammar, *parts: str | int) -> bool:
    """Whether the whole of ``parts`` is an answer."""
    matcher = compiler.compile(grammar.grammar())
    ids = [i for p in parts for i in ([p] if isinstance(p, int) else p.encode())]
    return matcher.admits([*ids, 299]) == len(ids) + 1


@pytest.mark.parametrize("form", [WORDS, MARKED, BARE, TAGGED])
def test_text_is_free_unless_a_call_is_required(compiler, form) -> None:
    for text in ("", "hello", "x < y", "[1, 2]", '{"a": 1}', "two\nlines"):
        assert admits(compiler, made(form), text)
        assert not admits(compiler, made(form, required=True), text)


def test_calls_are_of_the_tools_with_arguments_of_their_schemas(compiler) -> None:
    for required in (True, False):
        grammar = made(WORDS, required=required)
        assert admits(compiler, grammar, CALL)
        assert admits(compiler, grammar, CALL + "\n" + CALL)
        for wrong in ("wether", "weather2"):
            assert not admits(compiler, grammar, CALL.replace("weather", wrong))
        assert not admits(compiler, grammar, CALL.replace("3", "12"))
        assert not admits(compiler, grammar, CALL.replace('"city": "Oslo", ', ""))
        assert not admits(compiler, grammar, CALL.replace("days", "nights"))
        assert not admits(compiler, grammar, CALL + " and more")
        assert not admits(compiler, grammar, CALL[:-1])
    assert admits(compiler, made(WORDS), "Let me see.\n" + CALL)


def test_there_are_no_more_calls_than_allowed(compiler) -> None:
    assert not admits(compiler, made(WORDS, most=1), CALL + "\n" + CALL)
    assert admits(compiler, made(WORDS, most=99), "\n".join([CALL] * MAX_CALLS))
    assert not admits(compiler, made(WORDS, most=99), "\n".join([CALL] * (MAX_CALLS + 1)))


def test_a_control_token_is_not_a_text_that_spells_it(compiler) -> None:
    call = '[{"name": "now", "arguments": {}, "id": "abcdefgh1"}]'
    two = call[:-1] + ', {"name": "now", "arguments": {}, "id": "abcdefgh2"}]'
    grammar = made(MARKED)
    assert admits(compiler, grammar, CONTROL, call)
    assert admits(compiler, grammar, "Hm. ", CONTROL, two)
    assert not admits(compiler, grammar, CONTROL, call.replace("1", "2"))
    assert not admits(compiler, grammar, CONTROL, "hello")
    assert admits(compiler, grammar, "<control>" + call)  # as any text


def test_json_is_a_call_where_the_answer_begins(compiler) -> None:
    call = '{"name": "now", "parameters": {}}'
    grammar = made(BARE, most=1)
    assert admits(compiler, grammar, call)
    assert admits(compiler, grammar, "So: " + call + " and more")
    assert not admits(compiler, grammar, call.replace("now", "then"))


def test_arguments_between_tags_follow_the_schema(compiler) -> None:
    grammar = made(TAGGED)
    assert admits(compiler, grammar, "I look.\n\n" + TAGS)
    assert admits(compiler, grammar, "<tool_call>\n<function=now>\n</function>\n</tool_call>")
    assert not admits(compiler, grammar, TAGS.replace("True", "true"))
    assert not admits(compiler, grammar, TAGS.replace("exact", "days"))
    assert not admits(
        compiler, grammar, "<tool_call>\n<function=weather>\n</function>\n</tool_call>"
    )


def test_the_end_after_several_calls_may_be_another(compiler) -> None:
    form = {**WORDS, "end_of_many": ("}\n</tool_call>\n</all>",)}
    assert admits(compiler, made(form), CALL)
    assert not admits(compiler, made(form), CALL + "\n" + CALL)
    assert admits(compiler, made(form), CALL + "\n" + CALL + "\n</all>")


def test_a_keyword_that_cannot_be_held_is_named(compiler) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    with pytest.raises(InputError, match="uniqueItems") as error:
        compiler.compile(made(WORDS, tools=(("f", schema),)).grammar())
    assert error.value.param == "tools"


@pytest.mark.parametrize("seed", range(6))
def test_a_random_model_writes_calls_that_validate(make_engine, seed: int) -> None:
    grammar = made(WORDS, required=True, most=1).grammar()
    outcome = generate(
        make_engine(), [1, 2], grammar=grammar, max_tokens=250, temperature=1.5, seed=seed
    )
    tokens = [t for t in outcome.tokens if t != EOS]
    text = b"".join(byte_vocabulary().token_bytes[t] for t in tokens).decode()
    assert outcome.last.finish_reason == "stop", text
    call = json.loads(text.removeprefix("<tool_call>\n").removesuffix("\n</tool_call>"))
    jsonschema.validate(call["arguments"], dict(TOOLS)[call["name"]])
