"""Grammar masks: what the model writes is in the language, whatever it would rather write."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import EOS, Outcome, byte_vocabulary, drive, generate, request

from lmstack.core import Grammar, InputError, UnsupportedError
from lmstack.engine import Engine, GrammarVocabulary
from lmstack.engine.constraints.grammar import GrammarCompiler

SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 22, 333]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
    "x-guidance": {"whitespace_flexible": False},
}


def text(outcome: Outcome) -> str:
    vocabulary = byte_vocabulary()
    data = b"".join(vocabulary.token_bytes[t] for t in outcome.tokens)
    return data[: outcome.last.safe_bytes].decode()


@pytest.mark.parametrize("seed", range(8))
def test_a_random_model_writes_json_of_the_schema(
    make_engine: Callable[..., Engine], seed: int
) -> None:
    outcome = generate(
        make_engine(),
        [1, 2],
        grammar=Grammar.json_schema(SCHEMA),
        max_tokens=100,
        temperature=1.5,
        seed=seed,
    )
    assert outcome.last.finish_reason == "stop"
    value = json.loads(text(outcome))
    assert value.keys() == {"ok", "n"}
    assert value["n"] in (1, 22, 333)


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        (Grammar("regex", r"[ab]{3}(é|/)x*y"), r"[ab]{3}(é|/)x*y"),
        (Grammar("lark", 'start: "ab" NUMBER\nNUMBER: /[0-9]{2}/'), r"ab[0-9]{2}"),
    ],
)
def test_a_random_model_writes_text_of_the_grammar(
    make_engine: Callable[..., Engine], grammar: Grammar, pattern: str
) -> None:
    for seed in range(5):
        outcome = generate(
            make_engine(), [1], grammar=grammar, max_tokens=200, temperature=2.0, seed=seed
        )
        assert re.fullmatch(pattern, text(outcome)), text(outcome)


def test_the_end_comes_as_soon_as_nothing_else_may_follow(
    make_engine: Callable[..., Engine],
) -> None:
    outcome = generate(make_engine(), [1], grammar=Grammar("regex", "abc"), max_tokens=50)
    assert outcome.last.finish_reason == "stop"
    assert text(outcome) == "abc"
    assert EOS not in outcome.tokens


def test_ignore_eos_does_not_push_text_past_the_end_of_a_grammar(
    make_engine: Callable[..., Engine],
) -> None:
    outcome = generate(
        make_engine(), [1], grammar=Grammar("regex", "a{1,3}"), max_tokens=50, ignore_eos=True
    )
    assert re.fullmatch("a{1,3}", text(outcome))


def test_max_tokens_cuts_a_grammar_and_says_length(make_engine: Callable[..., Engine]) -> None:
    outcome = generate(make_engine(), [1], grammar=Grammar("regex", "a{9}"), max_tokens=3)
    assert outcome.last.finish_reason == "length"
    assert len(outcome.tokens) == 3


def test_a_bias_cannot_leave_the_grammar(make_engine: Callable[..., Engine]) -> None:
    outcome = generate(
        make_engine(), [1], grammar=Grammar("regex", "[xy]z"), logit_bias={ord("q"): 100}
    )
    assert re.fullmatch("[xy]z", text(outcome))


def test_preemption_keeps_the_place_in_the_grammar(make_engine: Callable[..., Engine]) -> None:
    def run(num_blocks: int) -> tuple[list[str], int]:
        engine = make_engine(num_blocks=num_blocks, prefix_cache=False)
        outcomes = [Outcome() for _ in range(4)]
        for i, outcome in enumerate(outcomes):
            grammar = Grammar("regex", "(ab|ba|cd){12}")
            options = {"grammar": grammar, "max_tokens": 40, "temperature": 1.0, "seed": i}
            engine.submit(request(range(i, i + 6), outcome, id=str(i), **options))
        drive(engine)
        return [text(o) for o in outcomes], engine.stats().num_preemptions

    plain, none = run(64)
    pressed, some = run(12)
    assert (none, some > 0) == (0, True)
    assert pressed == plain


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar("regex", "a(b"), "unclosed group"),
        (Grammar("lark", "start: foo"), "unknown name"),
        (Grammar("json_schema", "{"), "Expecting"),
        (Grammar("json_schema", "1}, {"), "Extra data"),
        (Grammar("json_schema", '{"type": "strnig"}'), "strnig"),
        (Grammar("json_schema", '{"not": {"type": "null"}}'), "not"),
        (Grammar("json_schema", '{"type": "array", "uniqueItems": true}'), "uniqueItems"),
        (Grammar("json_schema", '{"x-guidance": {"lenient": true}, "if": {}}'), "if"),
        (Grammar("json_schema", '{"$ref": "http://example.com/x"}'), "example.com"),
        (Grammar("json_schema", "[" * 100_000), "recursion"),
        (Grammar("json_schema", "false"), "false"),
        (Grammar("json_schema", r'{"const": "\ud800"}'), "grammar"),
        (Grammar("regex", "a" * 300_000), "300000 bytes"),
        (Grammar("regex", "^a\\"), "backslash"),
        (Grammar.json_schema({"type": "string", "pattern": "^a\\"}), "'^a\\\\'"),
        (Grammar.json_schema({"$defs": {"x": {"anyOf": [{"pattern": "b\\"}]}}}), "'b\\\\'"),
        (Grammar.json_schema({"patternProperties": {"c\\\\\\": {}}}), "backslash"),
    ],
)
def test_what_cannot_be_enforced_is_refused_at_submit_with_the_reason(
    make_engine: Callable[..., Engine], grammar: Grammar, reason: str
) -> None:
    with pytest.raises(InputError, match=re.escape(reason)) as caught:
        make_engine().submit(request([1], grammar=grammar))
    assert caught.value.param == "response_format"
    assert "<state>" not in caught.value.message


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^a\\\\$"},
        {"properties": {"pattern": {"type": "string"}, "const": {"type": "null"}}},
        {"enum": [{"pattern": "a\\"}]},
        {"const": {"pattern": "a\\"}},
    ],
)
def test_a_backslash_that_ends_no_expression_is_left_alone(
    make_engine: Callable[..., Engine], schema: dict[str, object]
) -> None:
    outcome = generate(make_engine(), [1], grammar=Grammar.json_schema(schema), max_tokens=1)
    assert outcome.done


# Derivative automata that blow up: refused or bounded, never a stall.
@pytest.mark.parametrize(
    "source",
    [
        "((((a|b){1,300}){1,300}){1,300})c",
        "(.*a.{200}|.*b.{190}){20}",
        "(" + "|".join(f"(.*{chr(97 + i)}.*)" for i in range(26)) + "){50}",
        "(a?){2000}a{2000}",
    ],
)
def test_a_grammar_made_to_explode_is_bounded_in_time(
    make_engine: Callable[..., Engine], source: str
) -> None:
    engine = make_engine()
    start = time.process_time()
    with contextlib.suppress(InputError):
        assert generate(engine, [1], grammar=Grammar("regex", source), max_tokens=4).done
    assert time.process_time() - start < 5
    assert generate(engine, [1]).last.finish_reason == "length"


def test_a_model_without_an_end_token_cannot_do_grammars() -> None:
    compiler = GrammarCompiler(GrammarVocabulary([b"a"], frozenset()), 100)
    with pytest.raises(UnsupportedError, match="no end-of-text token"):
        compiler.compile(Grammar("regex", "a"))


def test_two_requests_with_one_grammar_do_not_share_its_state() -> None:
    compiler = GrammarCompiler(byte_vocabulary(), 100)
    first = compiler.compile(Grammar("regex", "ab"))
    first.accept(ord("a"))
    second = compiler.compile(Grammar("regex", "ab"))
    second.accept(ord("a"))
    assert not second.finished


@settings(max_examples=30, deadline=None)
@given(
    words=st.lists(st.text('ab"\\é/', min_size=1, max_size=6), min_size=1, max_size=5, unique=True)
)
def test_an_enum_gives_one_of_its_words(words: list[str], module) -> None:
    engine = Engine(module, byte_vocabulary())
    grammar = Grammar.json_schema({"enum": words})
    outcome = generate(engine, [3], grammar=grammar, max_tokens=80, temperature=1.0, seed=0)
    assert json.loads(text(outcome)) in words


def chained(count: int) -> str:
    """A schema of definitions of which each is the next one."""
    names = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(count)}
    schema = {"$ref": "#/$defs/d0", "$defs": names | {f"d{count}": {"type": "integer"}}}
    return json.dumps(schema)


@pytest.mark.parametrize(
    "grammar",
    [
        Grammar("json_schema", chained(3000)),
        Grammar(
            "lark", "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(9000)) + 'r9000: "a"'
        ),
    ],
    ids=["schema", "lark"],
)
def test_a_grammar_too_deep_for_the_stack_is_refused_and_the_process_lives(
    grammar: Grammar,
) -> None:
    compiler = GrammarCompiler(byte_vocabulary(), 1 << 20)
    with pytest.raises(InputError, match="too complex"):
        compiler.compile(grammar)


def many_patterns(count: int) -> Grammar:
    names = {f"p{i}": {"type": "string", "pattern": f"^{i}[a-z]+$"} for i in range(count)}
    return Grammar.json_schema({"type": "object", "properties": names})


@pytest.mark.parametrize(
    ("limit", "says"), [("MAX_COMPILE_S", "to compile"), ("MAX_MASK_S", "token")]
)
def test_a_grammar_that_takes_longer_than_the_limits_is_refused(
    monkeypatch: pytest.MonkeyPatch, limit: str, says: str
) -> None:
    # A clock that counts in steps may find that a mask took no time at all.
    monkeypatch.setattr(
        f"lmstack.engine.constraints.isolated.{limit}", -1 if "MASK" in limit else 0.02
    )
    compiler = GrammarCompiler(byte_vocabulary(), 1 << 20)
    with pytest.raises(InputError, match=says):
        compiler.compile(many_patterns(600))


def test_a_large_grammar_within_the_limits_is_compiled_once_and_obeyed(
    monkeypatch: pytest.MonkeyPatch, make_engine: Callable[..., Engine]
) -> None:
    engine = make_engine()
    compiled: list[Grammar] = []
    isolated = engine.grammars._isolated
    compile_once = isolated.compile

    def counted(grammar: Grammar, *others: Any) -> Any:
        compiled.append(grammar)
        return compile_once(grammar, *others)

    monkeypatch.setattr(isolated, "compile", counted)
    large = Grammar.json_schema({"enum": [f"value {i}" for i in range(1000)]})
    small = Grammar.json_schema({"enum": [1, 2]})
    assert engine.grammars.takes_long(large)
    assert not engine.grammars.takes_long(small)
    for grammar in (large, small, large):
        outcome = generate(engine, [1, 2], grammar=grammar, max_tokens=60)
        assert json.loads(text(outcome)) in json.loads(grammar.source)["enum"]
    assert compiled == [large]
    assert not engine.grammars.takes_long(large)


def test_a_grammar_is_kept_for_the_scope_that_sent_it_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiler = GrammarCompiler(byte_vocabulary(), 1 << 20)
    compiled: list[Grammar] = []
    builder = compiler._builder
    build = builder.build
    monkeypatch.setattr(builder, "build", lambda g: compiled.append(g) or build(g))
    for scope in ("one", "one", "other", "one", "other"):
        compiler.compile(Grammar.json_schema({"enum": [1, 2]}), scope)
    assert len(compiled) == 2
