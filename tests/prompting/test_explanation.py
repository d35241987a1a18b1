"""What a model is asked: parts that add up to the whole, and the room that is left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.core import Message, Prompt, Span
from lmstack.prompting import (
    ChatPrompt,
    FixedExamples,
    PromptExample,
    PromptTemplate,
    PromptTurn,
    TokenReading,
    explain,
)


class Words:
    """A token is a word with the space after it; the template trims what it is given."""

    context_length = 100

    def read(self, messages: Sequence[Message]) -> TokenReading:
        text = "".join(f"<{m.role}> {m.content.strip()} </{m.role}>\n" for m in messages)
        starts = [match.start() for match in re.finditer(r"\S+\s*|^\s+", text)]
        return TokenReading(text, len(starts), starts)


@cache
def few() -> PromptTemplate:
    return PromptTemplate.of(
        "Good or bad? {{review}}", system="You judge reviews.", untrusted=["review"]
    ).with_examples(FixedExamples([PromptExample({"review": "Great."}, "good")]))


def test_each_token_is_of_one_part_and_the_rest_of_the_template() -> None:
    found = explain(few().fill(review="It was cold."), Words(), max_tokens=20)
    parts = [(p.role, p.label, p.untrusted, p.tokens) for p in found.parts]
    assert parts == [
        ("system", "system", False, 3),
        ("user", "example 1", False, 3),
        ("user", "example 1", True, 4),
        ("assistant", "example 1", False, 1),
        ("user", "user", False, 3),
        ("user", "{{review}}", True, 6),
    ]
    assert found.prompt_tokens == sum(tokens or 0 for *_, tokens in parts) + 8
    assert found.template_tokens == 8
    assert found.budget == 100 - 28 - 20
    assert found.text.startswith(
        "<system> You judge reviews. </system>\n<user> Good or bad? <data-"
    )


def test_tokens_are_told_apart_where_nothing_stands_before_the_first_turn() -> None:
    class Bare(Words):
        def read(self, messages: Sequence[Message]) -> TokenReading:
            text = "\n".join(m.content for m in messages)
            return TokenReading(text, 0, [match.start() for match in re.finditer(r"\S+\s*", text)])

    found = explain(PromptTemplate.of("Good or bad? {{review}}").fill(review="Cold."), Bare())
    assert [(p.label, p.tokens) for p in found.parts] == [("user", 3), ("{{review}}", 1)]


def test_what_does_not_fit_is_below_nought() -> None:
    found = explain(few().fill(review="x " * 90), Words(), max_tokens=20)
    assert found.budget == 100 - (28 - 6 + 93) - 20


def test_without_a_tokenizer_there_are_characters_only() -> None:
    found = explain(few().fill(review="x"))
    assert (found.prompt_tokens, found.template_tokens, found.budget) == (None, None, None)
    assert {part.tokens for part in found.parts} == {None}
    assert found.text.startswith("system:\nYou judge reviews.\n\nuser:\nGood or bad?")


def test_a_turn_that_a_template_changes_counts_as_the_template_s() -> None:
    class Shouting(Words):
        def read(self, messages: Sequence[Message]) -> TokenReading:
            found = super().read(messages)
            return replace(found, text=found.text.upper())

    found = explain(ChatPrompt((PromptTurn("user", Prompt.of("say it")),)), Shouting())
    assert ([part.tokens for part in found.parts], found.template_tokens) == ([0], 4)


texts = st.text("ab \n<>", max_size=6)
spans = st.builds(Span, texts, st.booleans(), st.just("x"))
turns = st.builds(
    PromptTurn,
    st.sampled_from(["system", "user", "assistant"]),
    st.lists(spans, max_size=4).map(lambda found: Prompt(tuple(found))),
)


@settings(deadline=None)
@given(st.lists(turns, min_size=1, max_size=4))
def test_the_parts_add_up_whatever_is_trimmed(found: list[PromptTurn]) -> None:
    prompt = ChatPrompt(tuple(found))
    told = explain(prompt, Words())
    assert len(told.parts) == sum(len(turn.prompt.spans) for turn in found)
    assert all(part.tokens is not None and part.tokens >= 0 for part in told.parts)
    parts = sum(part.tokens or 0 for part in told.parts)
    assert parts + (told.template_tokens or 0) == Words().read(prompt.messages).tokens
    # A marker begins and ends each turn, and at most two tokens of the text begin in them.
    assert told.template_tokens is not None
    assert told.template_tokens >= len(found)


@pytest.mark.parametrize("text", ["", "   ", "\n\n"])
def test_a_turn_of_nothing_has_no_tokens(text: str) -> None:
    found = explain(ChatPrompt((PromptTurn("user", Prompt.of(text)),)), Words())
    assert found.parts[0].tokens == 0


def test_where_tokens_begin_may_be_unknown() -> None:
    class Blind(Words):
        def read(self, messages: Sequence[Message]) -> TokenReading:
            return replace(super().read(messages), starts=None)

    found = explain(few().fill(review="x"), Blind(), max_tokens=20)
    assert (found.prompt_tokens, found.template_tokens) == (26, None)
    assert {part.tokens for part in found.parts} == {None}
    assert found.budget == 100 - 26 - 20


def test_a_turn_is_looked_for_after_those_before_it() -> None:
    prompt = ChatPrompt(
        (PromptTurn("user", Prompt.of("say it")), PromptTurn("user", Prompt.of("t")))
    )
    assert [part.tokens for part in explain(prompt, Words()).parts] == [2, 1]
