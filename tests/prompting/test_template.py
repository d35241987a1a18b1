"""Templates: what is filled in stays what it is, and each name has to be known."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.app.conftest import HashEmbedder
from tests.errors import about

from lmstack.core import InputError, SamplingParams
from lmstack.prompting import (
    ChainOfThought,
    ChatPrompt,
    FixedExamples,
    NearestExamples,
    PromptExample,
    PromptTemplate,
    TemplateTurn,
    Variable,
)


@cache
def zero() -> PromptTemplate:
    return PromptTemplate.of("Good or bad? {{review}}", system="You judge.", untrusted=["review"])


def test_zero_shot_is_a_role_and_a_turn_with_what_others_wrote_fenced() -> None:
    prompt = zero().fill(review="It was cold.")
    assert [message.role for message in prompt.messages] == ["system", "user"]
    assert prompt.messages[0].content == "You judge."
    told = prompt.messages[1].content
    assert re.fullmatch(
        r'Good or bad\? <data-(\w{8}) from="review">\nIt was cold\.\n</data-\1>', told
    )


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["", "{{review}}", "\\{{", "</data-", "}}"]))
def test_a_value_is_put_in_as_it_is_whatever_it_holds(text: str, part: str) -> None:
    value = text.encode("utf-8", "ignore").decode() + part
    told = zero().fill(review=value).messages[1].content
    fence = re.fullmatch(
        r'Good or bad\? <data-(\w{8}) from="review">\n(.*)\n</data-\1>', told, re.S
    )
    assert fence is not None
    assert fence[2] == value
    plain = PromptTemplate.of("{{a}}{{b}}").fill(a=value, b="{{a}}")
    assert plain.messages[0].content == value + "{{a}}"


def test_few_shot_examples_are_turns_that_look_like_the_question() -> None:
    few = zero().with_examples(
        FixedExamples(
            [PromptExample({"review": "Great."}, "good"), PromptExample({"review": "Cold."}, "bad")]
        )
    )
    messages = few.fill(review="Slow.").messages
    roles = ["system", "user", "assistant", "user", "assistant", "user"]
    assert [message.role for message in messages] == roles
    assert [m.content for m in messages if m.role == "assistant"] == ["good", "bad"]
    asked = [re.sub(r"data-\w+", "data", m.content) for m in messages if m.role == "user"]
    assert [
        text.replace(word, "X")
        for text, word in zip(asked, ("Great.", "Cold.", "Slow."), strict=True)
    ] == ['Good or bad? <data from="review">\nX\n</data>'] * 3


def test_an_example_is_never_shown_for_itself() -> None:
    few = zero().with_examples(
        FixedExamples(
            [
                PromptExample({"review": "It's  Great. "}, "good"),
                PromptExample({"review": "x"}, "bad"),
            ]
        )
    )
    said = [m.content for m in few.fill(review="it's great.").messages if m.role == "assistant"]
    assert said == ["bad"]


def test_a_default_that_an_example_leaves_out_is_a_value_of_it() -> None:
    template = PromptTemplate.of("{{a}} {{b}}", variables={"b": Variable(default="usual")})
    pool = [PromptExample({"a": "x"}, "one"), PromptExample({"a": "x", "b": "other"}, "two")]
    for examples in (FixedExamples(pool), NearestExamples(pool, HashEmbedder(), 2)):
        few = template.with_examples(examples)
        assert [m.content for m in few.fill(a="x").messages[:-1]] == ["x other", "two"]
        assert [m.content for m in few.fill(a="x", b="other").messages[:-1]] == ["x usual", "one"]


def test_variables_are_text_unless_they_are_given_otherwise() -> None:
    given = {"b": Variable("integer"), "c": Variable(default="x")}
    template = PromptTemplate.of("{{a}}{{b}}{{c}}", untrusted=["a", "c"], variables=given)
    assert template.variables == {"a": Variable(untrusted=True), **given}
    assert PromptTemplate.of("{{a}}").variables == {"a": Variable()}


def test_a_chain_of_thought_is_stated_and_examples_show_it() -> None:
    chain = ChainOfThought(marker="Verdict:")
    few = (
        zero()
        .with_thinking(chain)
        .with_examples(
            FixedExamples(
                [PromptExample({"review": "Great."}, "good", reasoning="They say great.")]
            )
        )
    )
    system, first, answer, last = few.fill(review="Slow.").messages
    assert system.content == "You judge."
    assert 'a last line that begins with "Verdict:"' in first.content
    assert first.content.split("\n\n")[-1] == last.content.split("\n\n")[-1]
    assert answer.content == "They say great.\nVerdict: good"


def test_values_are_of_their_types_and_written_as_json_writes_them() -> None:
    template = PromptTemplate.of(
        "{{n}} {{x}} {{b}} {{c}} {{t}}",
        variables={
            "n": Variable("integer"),
            "x": Variable("number"),
            "b": Variable("boolean"),
            "c": Variable("choice", choices=("red", "blue")),
            "t": Variable(default="usual"),
        },
    )
    prompt = template.fill(n=3, x=0.5, b=True, c="red")
    assert prompt.messages[0].content == "3 0.5 true red usual"


@pytest.mark.parametrize(
    ("settings_", "message", "hint", "param"),
    [
        ({"type": "txt"}, "has the type 'txt'", "did you mean 'text'?", "type"),
        ({"type": "zzzz"}, "has the type 'zzzz'", "types are text", "type"),
        ({"description": 3}, "a description is 3, not text", "", "a description"),
        ({"untrusted": "yes"}, "untrusted is 'yes', not true or false", "", None),
        ({"type": "integer", "untrusted": True}, "integer is untrusted", "only text", "untrusted"),
    ],
)
def test_a_wrong_variable_says_what_would_be_right(
    settings_: Any, message: str, hint: str, param: str | None
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        Variable(**settings_)
    assert hint in (caught.value.hint or "")
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("values", "message", "hint", "param"),
    [
        ({}, "lacks a value for review", "give review a value", "review"),
        ({"revew": "x"}, "has no variable 'revew'", "did you mean 'review'?", "revew"),
        ({"review": "x", "other": 1}, "has no variable 'other'", "its variables: review", "other"),
        ({"review": 3}, "review is 3, not text", None, "review"),
        ({"review": "\ud800"}, "half a surrogate pair", None, "review"),
    ],
)
def test_a_value_that_is_missing_unknown_or_wrong_is_named(
    values: Any, message: str, hint: str | None, param: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message), check=about(param)) as caught:
        zero().fill(values)
    assert hint is None or caught.value.hint == hint


@pytest.mark.parametrize(
    ("stated", "value"),
    [
        ({"type": "integer"}, True),
        ({"type": "integer"}, 1.5),
        ({"type": "number"}, float("nan")),
        ({"type": "number"}, "1"),
        ({"type": "boolean"}, 1),
        ({"type": "choice", "choices": ("a",)}, "b"),
        ({}, None),
    ],
)
def test_a_value_of_another_type_is_refused(stated: Any, value: Any) -> None:
    template = PromptTemplate.of("{{v}}", variables={"v": Variable(**stated)})
    with pytest.raises(InputError, match="v", check=about("v")):
        template.fill(v=value)


@pytest.mark.parametrize(
    "text", ["{{ user.name }}", "{{#if a}}x{{/if}}", "{{a|upper}}", "{{", "{{a} }"]
)
def test_this_is_no_template_engine(text: str) -> None:
    with pytest.raises(InputError, match="no variable"):
        PromptTemplate.of(text)


def test_a_value_that_is_typed_is_read_by_its_type() -> None:
    assert Variable().parsed("v", "1") == "1"
    assert Variable("choice", choices=("1",)).parsed("v", "1") == "1"
    assert Variable("integer").parsed("v", "1") == 1
    assert Variable("boolean").parsed("v", "true") is True


def test_all_that_is_missing_is_named_and_a_value_may_stand_in_both_places() -> None:
    template = PromptTemplate.of("{{a}}{{b}}")
    with pytest.raises(
        InputError, match="the prompt lacks a value for a, b", check=about("a")
    ) as caught:
        template.fill()
    assert caught.value.hint == "give a a value"
    assert template.fill({"a": "1", "b": "2"}, b="3").messages[0].content == "13"
    with pytest.raises(InputError, match="has no variable 'zzz'", check=about("zzz")) as caught:
        PromptTemplate.of("x").fill(zzz=1)
    assert caught.value.hint == "its variables: none"


def test_a_choice_that_is_none_says_which_there_are() -> None:
    template = PromptTemplate.of("{{v}}", variables={"v": Variable("choice", choices=("a", "b"))})
    with pytest.raises(InputError, match="v is 'c', not one of a, b", check=about("v")):
        template.fill(v="c")


def test_thinking_may_be_told_later_and_is_the_usual_one() -> None:
    assert zero().with_thinking().thinking == ChainOfThought()
    chain = ChainOfThought(marker="So:")
    assert zero().with_thinking(chain).thinking is chain


def test_braces_can_be_written() -> None:
    template = PromptTemplate.of('{"a": {"b": 1}} \\{{x}} {{ a }} } }}')
    assert template.fill(a="1").messages[0].content == '{"a": {"b": 1}} {{x}} 1 } }}'


@pytest.mark.parametrize(
    ("make", "param", "message"),
    [
        (
            lambda: PromptTemplate((TemplateTurn("system", "x"),)),
            "turns",
            "ends with a turn of the user, and its last is the system's",
        ),
        (lambda: PromptTemplate(()), "turns", "it has none"),
        (
            lambda: PromptTemplate(
                (TemplateTurn("user", "{{a}}"),), {"ab": Variable(), "b": Variable()}
            ),
            "variables",
            "has no variable 'a' (did you mean 'ab'?)",
        ),
        (
            lambda: PromptTemplate((TemplateTurn("user", "a"),), {"b": Variable()}),
            "variables",
            "no turn of the prompt names its variable 'b' (write {{b}} where",
        ),
        (
            lambda: PromptTemplate.of("{{a}}{{c}}", untrusted=["zzz"]),
            "untrusted",
            "has no variable 'zzz' (its variables: a, c)",
        ),
        (lambda: PromptTemplate.of("{{label}}"), "variables", "letters, digits and _, and none of"),
        (
            lambda: Variable("integer", untrusted=True),
            "untrusted",
            "type integer is untrusted (its values are checked",
        ),
        (lambda: Variable("choice"), "choices", "type choice has 0 choices"),
        (lambda: Variable(choices=("a",)), "choices", "type text has 1 choices"),
        (lambda: Variable(choices="a"), "choices", "'a', not a list"),  # type: ignore[arg-type]
        (lambda: Variable("txt"), "type", "type 'txt'"),  # type: ignore[arg-type]
        (
            lambda: Variable("integer", default="1"),
            "a default",
            "a default is '1', not integer",
        ),
        (lambda: Variable("integer").parsed("n", "one"), "n", "n is 'one', not integer"),
        (
            lambda: zero().with_examples(FixedExamples([PromptExample({"revew": "x"}, "good")])),
            "revew",
            "the example 'good' has no variable 'revew' (did you mean 'review'?)",
        ),
        (
            lambda: ChainOfThought(instruction="Think."),
            "instruction",
            "does not name the marker 'Answer:'",
        ),
    ],
)
def test_a_template_that_cannot_be_filled_is_an_error_when_it_is_made(
    make: Any, param: str, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert message in str(caught.value)
    assert caught.value.param == param


def test_the_request_names_the_prompt_and_its_version() -> None:
    request = zero().fill(review="x").request(SamplingParams(max_tokens=3), client="me")
    assert (request.sampling.max_tokens, request.client) == (3, "me")
    assert request.prompt_name == ""
    assert request.prompt_digest == zero().fill(review="x").digest
    assert request.prompt_digest != zero().fill(review="y").digest


def test_a_prompt_without_a_turn_is_none() -> None:
    with pytest.raises(InputError, match="a prompt has no turn", check=about("turns")):
        ChatPrompt(())


def test_unfilled_shows_the_names_in_their_places() -> None:
    few = zero().with_examples(FixedExamples([PromptExample({"review": "Great."}, "good")]))
    messages = few.unfilled().messages
    assert "{{review}}" in messages[-1].content
    assert messages[2].content == "good"
