"""What the columns of a row mean, and what is said where they mean nothing."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import InputError, Message, Tool, ToolCall
from lmstack.train.data import formats
from lmstack.train.data.formats import (
    Choices,
    Labelled,
    Preference,
    Rated,
    TextPair,
    choices_of,
    completions_of,
    document_of,
    is_scored,
    labelled_of,
    messages_of,
    pair_of,
    preference_of,
    prompt_of,
    ratings_of,
    split_text_of,
    tagged_of,
    text_of,
    tools_of,
    translation_of,
)
from lmstack.train.data.rows import Row

USER, REPLY = Message("user", "Hi"), Message("assistant", "Hello")
READERS: list[Callable[[Row], object]] = [
    getattr(formats, name) for name in formats.__all__ if name.endswith("_of")
]


def row(**values: Any) -> Row:
    return Row(values, "f.jsonl:1")


@pytest.mark.parametrize(
    "values",
    [
        {
            "messages": [
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
            ]
        },
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]},
        {"instruction": "Hi", "output": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"prompt": "Hi", "completion": "Hello"},
        {
            "prompt": [{"role": "user", "content": "Hi"}],
            "completion": [{"role": "assistant", "content": "Hello"}],
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
                {"role": "assistant", "content": "Hello", "tool_calls": None},
            ]
        },
    ],
)
def test_every_form_of_a_conversation_is_the_same_conversation(values: Mapping[str, Any]) -> None:
    assert messages_of(Row(values, "f:1")) == [USER, REPLY]


def test_an_input_follows_its_instruction_and_system_comes_first() -> None:
    found = messages_of(row(system="S", instruction="Add.", input="1 2", output="3"))
    assert found == [
        Message("system", "S"),
        Message("user", "Add.\n\n1 2"),
        Message("assistant", "3"),
    ]
    turns = [{"role": "system", "content": "own"}, {"role": "user", "content": "Hi"}]
    assert messages_of(row(system="S", messages=turns))[0].content == "own"


@pytest.mark.parametrize(
    "values",
    [
        {"messages": [{"role": "user", "content": "Hi"}]},
        {"conversations": [{"from": "human", "value": "Hi"}]},
        {"instruction": "Hi", "output": "Hello"},
        {"prompt": [{"role": "user", "content": "Hi"}], "completion": "Hello"},
        {"prompt": "Hi", "input": "of an instruction alone", "completion": "Hello"},
    ],
)
def test_system_comes_first_in_every_form_that_has_none(values: Mapping[str, Any]) -> None:
    assert messages_of(row(**values, system="S"))[:2] == [Message("system", "S"), USER]
    for absent in ("", None):
        assert messages_of(row(**values, system=absent))[0] == USER
    with pytest.raises(InputError, match="system is 3, not text"):
        messages_of(row(**values, system=3))


@pytest.mark.parametrize("column", ["messages", "conversations", "prompt"])
def test_a_system_message_of_its_own_is_kept_alone(column: str) -> None:
    turns = [{"role": "system", "content": "own"}, {"role": "user", "content": "Hi"}]
    values = {column: turns, **({"completion": "Hello"} if column == "prompt" else {})}
    assert messages_of(row(system="S", **values))[:2] == [Message("system", "own"), USER]


@pytest.mark.parametrize("arguments", ['{"city": "Ulm"}', {"city": "Ulm"}])
def test_tool_calls_keep_their_arguments_as_text(arguments: object) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "w", "arguments": arguments}}
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "warm", "tool_call_id": "1"},
    ]
    _, asked, told = messages_of(row(messages=turns))
    assert asked.tool_calls == (ToolCall("1", "w", '{"city": "Ulm"}'),)
    assert told.tool_call_id == "1"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"text": "x"}, "has the columns 'text', and no conversation"),
        ({"messages": []}, "messages is [], not a list of turns"),
        (
            {"messages": [{"role": "user", "content": "x"}] * 100_000},
            "messages has 100,000 turns, at most 10,000",
        ),
        ({"messages": ["Hi"], "system": "S"}, "a turn is 'Hi', not an object"),
        ({"messages": [{"role": "user"}]}, "it needs a role and a content"),
        ({"messages": [{"role": "narrator", "content": "x"}]}, "the role 'narrator'"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "not text"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "half a surrogate pair"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": 3}]}, "tool_calls is 3"),
        ({"prompt": "x", "completion": 3}, "completion is 3, not text"),
        ({"prompt": 3, "completion": "x"}, "prompt is 3, not text"),
        ({"prompt": "x"}, "has the columns 'prompt', and no conversation"),
        ({"b": 1, "a": 2}, "has the columns 'a, b', and no conversation"),
        ({"instruction": "x", "completion": "y"}, "and no conversation"),
        ({"instruction": "x", "input": 3, "output": "y"}, "input is 3, not text"),
        ({"conversations": 3}, "conversations is 3, not a list of turns"),
        ({"prompt": [], "completion": "x"}, "prompt is [], not a list of turns"),
        ({"prompt": "x", "completion": []}, "completion is [], not a list of turns"),
        ({"prompt": "\ud800", "completion": "x"}, "prompt"),
    ],
)
def test_what_is_no_conversation_is_named(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        messages_of(Row(values, "f:1"))
    assert said in str(error.value)
    if "and no conversation" in said:
        wanted = "messages; or instruction and output; or prompt and completion"
        assert error.value.hint == wanted


@pytest.mark.parametrize(
    ("read", "values"),
    [
        (preference_of, {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}),
        (ratings_of, {"prompt": "Hi", "completion": "Hello", "rating": 3}),
        (prompt_of, {"prompt": "Hi"}),
    ],
)
def test_tools_that_nobody_would_be_shown_are_not_passed_over(
    read: Callable[[Row], object], values: Mapping[str, Any]
) -> None:
    read(row(**values, tools=[]))
    with pytest.raises(InputError, match="the row has tools, which only sft and distillation"):
        read(row(**values, tools=[{"name": "now"}]))


def test_tools_are_read_from_a_list_or_its_text() -> None:
    parameters = {"type": "object", "properties": {"zone": {"type": "string"}}}
    plain = {"name": "now", "description": "The time.", "parameters": parameters}
    wanted = (Tool("now", "The time.", parameters=parameters), Tool("off", ""))
    others: list[Any] = [{"name": "off"}, {"function": {"name": "off", "description": None}}]
    for given_tools in ([plain, others[0]], [{"function": plain}, others[1]]):
        assert tools_of(row(tools=given_tools)) == wanted
        assert tools_of(row(tools=json.dumps(given_tools))) == wanted
    for nothing in ({}, {"tools": None}, {"tools": ""}, {"tools": []}):
        assert tools_of(row(**nothing)) == ()
    for wrong, said in (
        (3, "tools is 3, not a list"),
        ("[", r"tools is '\[', not a list"),
        ({"name": "now"}, "not a list"),
        ([3], "a tool is 3"),
        ([{"name": 3}], "a tool is"),
        ([{"function": 3}], "a tool is"),
        ([plain, plain], "two tools have the name 'now'"),
    ):
        with pytest.raises(InputError, match=said) as error:
            tools_of(row(tools=wrong))
        assert said.startswith("two") or 'tools: [{"name": "now"' in str(error.value)


def test_calls_without_an_id_and_roles_of_other_names_are_read() -> None:
    call = {"name": "w", "arguments": {"city": "K\u00f6ln"}}
    turns: list[Any] = [
        {"from": "human", "value": "Hi", "name": "ada"},
        {"role": "model", "tool_calls": [call, {"id": 7, "function": {"name": "v"}}]},
        {"role": "function_response", "content": "warm"},
    ]
    asked, called, told = messages_of(row(messages=turns))
    assert (asked.role, asked.name) == ("user", "ada")
    assert (called.role, called.content) == ("assistant", "")
    assert called.tool_calls == (
        ToolCall("", "w", '{"city": "K\u00f6ln"}'),
        ToolCall("7", "v", "{}"),
    )
    assert (told.role, told.tool_call_id) == ("tool", None)
    names = {"bot": "assistant", "gpt": "assistant", "observation": "tool", "system": "system"}
    for name, role in names.items():
        (found,) = messages_of(row(messages=[{"role": name, "content": "x"}]))
        assert found.role == role
    for wrong, said in (
        ({"role": "assistant", "tool_calls": [3]}, "a tool call is 3"),
        ({"role": "assistant", "tool_calls": [{"function": 3}]}, "a tool call is"),
        ({"role": "assistant", "tool_calls": []}, "a turn is"),
        ({"role": "user", "content": 3}, "a turn is"),
        ({"role": "user", "content": [{"text": 3}]}, "a part of a turn is"),
        ({"role": "user", "content": ["x"]}, "a part of a turn is 'x'"),
        ({"role": 3, "content": "x"}, "a turn is"),
        ({"content": "x"}, "a turn is"),
    ):
        with pytest.raises(InputError, match=said):
            messages_of(row(messages=[wrong]))
    parts = [{"text": "a"}, {"type": "text", "text": "b"}]
    assert messages_of(row(messages=[{"role": "user", "content": parts}]))[0].content == "ab"
    most = [{"role": "user", "content": "x"}] * 10_000
    assert len(messages_of(row(messages=most))) == 10_000


TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
WORSE = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "What?"}]


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
        {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": WORSE[1:]},
        {"prompt": "Hi", "chosen": TURNS, "rejected": WORSE},
        {"chosen": TURNS, "rejected": WORSE},
        {"prompt": None, "chosen": TURNS, "rejected": WORSE},
    ],
)
def test_every_form_of_a_preference_is_the_same(values: Mapping[str, Any]) -> None:
    expected = Preference((USER,), (REPLY,), (Message("assistant", "What?"),))
    assert preference_of(Row(values, "f:1")) == expected


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": "Hi", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"chosen": "a", "rejected": "b"}, "no prompt"),
        ({"prompt": "Hi", "chosen": "a"}, "the row has no rejected"),
        ({"prompt": "Hi", "chosen": TURNS[:1], "rejected": "b"}, "chosen does not end with"),
        ({"prompt": "Hi", "chosen": "a", "rejected": WORSE[:1]}, "rejected does not end with"),
        ({"chosen": [*TURNS, *TURNS], "rejected": TURNS}, "rejected does not end with"),
        ({"chosen": TURNS, "rejected": [*TURNS, *WORSE]}, "chosen does not end with"),
        ({"prompt": "Hi", "chosen": 3, "rejected": "a"}, "chosen is 3, not text"),
        ({"prompt": 3, "chosen": "a", "rejected": "b"}, "prompt is 3, not text"),
    ],
)
def test_what_is_no_preference_is_named(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        preference_of(Row(values, "f:1"))
    if said == "no prompt":
        wanted = "prompt, chosen and rejected; or two conversations that begin alike"
        assert error.value.hint == wanted


def test_the_prompt_of_two_conversations_is_all_that_they_share() -> None:
    ask = {"role": "user", "content": "And now?"}
    found = preference_of(row(chosen=[*TURNS, ask, TURNS[1]], rejected=[*TURNS, ask, WORSE[1]]))
    assert found.prompt == (USER, REPLY, Message("user", "And now?"))
    assert (found.chosen, found.rejected) == ((REPLY,), (Message("assistant", "What?"),))
    with_system = preference_of(row(system="S", prompt="Hi", chosen=TURNS[1:], rejected="No"))
    assert with_system.prompt == (Message("system", "S"), USER)


def test_a_preference_says_by_how_much_and_how_surely() -> None:
    found = preference_of(row(prompt="Hi", chosen="a", rejected="b", margin=2, probability=0.75))
    assert (found.margin, found.probability) == (2.0, 0.75)
    empty = preference_of(row(prompt="Hi", chosen="a", rejected="b", margin=None))
    assert (empty.margin, empty.probability) == (None, None)
    for column, value in (("margin", 0), ("margin", 7.5), ("probability", 0), ("probability", 1)):
        edge = preference_of(row(prompt="Hi", chosen="a", rejected="b", **{column: value}))
        assert getattr(edge, column) == value
    refused = [("margin", -0.5), ("margin", True), ("probability", 1.5), ("probability", -0.5)]
    for column, value in refused:
        most = " to 1" if column == "probability" else ""
        with pytest.raises(InputError, match=f"{column} is .*, not a number from 0{most}$"):
            preference_of(row(prompt="Hi", chosen="a", rejected="b", **{column: value}))


@pytest.mark.parametrize(
    "values",
    [
        {"prompt": "Hi", "completion": "Hello", "rating": 1},
        {"prompt": "Hi", "completion": "Hello", "label": True, "rating": None},
        {"prompt": TURNS[:1], "completion": TURNS[1:], "rating": 1.0},
        {"prompt": "Hi", "completion": TURNS, "rating": 1.0},
        {"messages": TURNS, "rating": 1},
        {"prompt": "Hi", "completions": ["Hello"], "ratings": [1]},
        {"prompt": "Hi", "completion": "Hello", "completions": None, "rating": 1, "rater": None},
        {"prompt": "Hi", "completion": "Hello", "messages": None, "label": 1},
    ],
)
def test_every_form_of_a_rating_is_the_same(values: Mapping[str, Any]) -> None:
    assert ratings_of(Row(values, "f:1")) == (Rated((USER,), (REPLY,), 1.0),)


def test_whoever_rates_a_conversation_rates_its_last_turn() -> None:
    turns = [*TURNS, {"role": "user", "content": "And now?"}, WORSE[1]]
    (found,) = ratings_of(row(messages=turns, label=False, rater=3))
    asked = (USER, REPLY, Message("user", "And now?"))
    assert found == Rated(asked, (Message("assistant", "What?"),), 0.0, "3")
    (one,) = ratings_of(row(prompt="Hi", completion="a", rating=2, label=True, rater="ada"))
    assert (one.rating, one.rater) == (2.0, "ada")


def test_several_answers_of_a_row_are_rated_by_one() -> None:
    found = ratings_of(row(prompt="Hi", completions=["a", "b"], ratings=[1, 2.5], rater="ada"))
    assert [(each.answer[0].content, each.rating, each.rater) for each in found] == [
        ("a", 1.0, "ada"),
        ("b", 2.5, "ada"),
    ]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": "Hi", "completion": "a"}, "the row has no rating"),
        ({"prompt": "Hi", "completion": "a", "rating": True}, "rating is True, not a number"),
        ({"prompt": "Hi", "completion": "a", "rating": 10**400}, "not a number"),
        ({"prompt": "Hi", "completion": TURNS[:1], "rating": 1}, "completion does not end with"),
        ({"messages": TURNS[:1], "rating": 1}, "messages do not end with an answer"),
        ({"prompt": "Hi", "completions": ["a"], "ratings": [1, 2]}, "1 completions and 2 ratings"),
        ({"prompt": "Hi", "completions": ["a"], "ratings": 1}, "ratings is 1, not a list"),
        ({"prompt": "Hi", "completions": ["a"], "ratings": [True]}, "ratings is .*, not a list"),
        ({"prompt": "Hi", "completions": ["a"]}, "the row has no ratings"),
        ({"prompt": "Hi", "completions": "a", "ratings": [1]}, "completions is 'a', not a list"),
        ({"prompt": "Hi", "completions": [3], "ratings": [1]}, "completions is .*, not a list"),
        ({"prompt": "Hi", "completion": 3, "rating": 1}, "completion is 3, not text"),
        ({"prompt": "Hi", "completion": "a", "label": "x"}, "label is 'x', not a number"),
        ({"prompt": "Hi", "completion": TURNS[:1] * 2, "rating": 1}, "completion does not end"),
        ({"messages": TURNS[1:], "rating": 1}, "messages do not end with an answer"),
        ({"messages": [*TURNS, *TURNS[:1]], "rating": 1}, "messages do not end with an answer"),
    ],
)
def test_what_is_no_rating_is_named(values: Mapping[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        ratings_of(Row(values, "f:1"))


def test_prompts_wait_for_an_answer() -> None:
    assert prompt_of(row(prompt="Hi", other=1)) == [USER]
    assert prompt_of(row(prompt=TURNS[:1])) == [USER]
    with pytest.raises(InputError, match="ends with a turn of the assistant"):
        prompt_of(row(prompt=TURNS))


def test_a_prompt_has_several_answers() -> None:
    found = completions_of(row(prompt="Hi", completions=["Hello", "What?"]))
    assert found == ((USER,), ((REPLY,), (Message("assistant", "What?"),)))
    with pytest.raises(InputError, match="the row has tools"):
        completions_of(row(prompt="Hi", completions=["Hello"], tools=[1]))


def test_what_a_document_says_is_all_but_labels() -> None:
    found = document_of(
        row(
            **{"label": "spam", "input": "i", "text": "t", "negatives": ["n", "m"], "tags": ["O"]},
            messages=[
                {"role": "user", "content": "c"},
                {"role": "user", "content": [{"text": "p"}]},
            ],
            conversations=[{"from": "human", "value": "v"}, 3],
        )
    )
    assert found == "t\nc\np\nv\ni\nn\nm"
    columns = [name for name in formats._SAYING if document_of(row(**{name: "x"})) != "x"]
    assert not columns
    assert document_of(row(b=1, a={2})) == '{"a": "{2}", "b": 1}'


ANSWERED = {"prompt": [*TURNS, *TURNS[:1]], "completion": "a"}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"prompt": "Hi", "chosen": "a", "rejected": "b"}, "Hi"),
        ({"chosen": [*TURNS, TURNS[0], TURNS[1]], "rejected": [*TURNS, *WORSE]}, "Hi\nHello\nHi"),
        ({"prompt": "Hi", "chosen": "a", "rejected": None}, "Hi\na"),
        ({"prompt": "Hi", "chosen": None, "rejected": "b"}, "Hi\nb"),
        ({"prompt": "Hi", "chosen": "a", "rejected": "a"}, "Hi\na\na"),
        ({**ANSWERED, "rating": 1}, "Hi\nHello\nHi"),
        ({**ANSWERED, "label": False}, "Hi\nHello\nHi"),
        ({"prompt": "Hi", "completions": ["a"], "ratings": [1]}, "Hi"),
        ({"prompt": "Hi", "completion": "a"}, "Hi\na"),
        ({"prompt": "Hi", "completion": "a", "rating": None}, "Hi\na"),
        ({"text": "t", "label": "spam"}, "t"),
    ],
)
def test_all_answers_to_a_prompt_go_to_one_side(values: Mapping[str, Any], said: str) -> None:
    assert split_text_of(Row(values, "f:1")) == said


def test_labels_are_names_or_numbers() -> None:
    assert labelled_of(row(text="x", label="spam")) == Labelled("x", "spam")
    assert labelled_of(row(text="x", label=True)) == Labelled("x", 1)
    assert labelled_of(row(sentence1="x", sentence2="y", label=0.5)) == Labelled("x", 0.5, "y")
    for label in (None, "", float("nan"), [1]):
        with pytest.raises(InputError, match="label is"):
            labelled_of(row(text="x", label=label))
    with pytest.raises(InputError, match="the row has no label") as error:
        labelled_of(row(text="x", an=1))
    assert error.value.hint == "its columns are an, text"
    for labels in (["a", "b"], [1, 2], []):
        assert labelled_of(row(text="x", labels=labels, label=[1])).label == tuple(labels)
    for labels in (["a", 2], [True], "a", None):
        with pytest.raises(InputError, match=r"labels is .*, not a list of names, or"):
            labelled_of(row(text="x", labels=labels))
    for values, name in (({"text": 3}, "text"), ({"sentence1": "x"}, "sentence2")):
        with pytest.raises(InputError, match=f"(no {name}|{name} is 3, not text)"):
            labelled_of(row(**values, label=1))
    with pytest.raises(InputError, match="sentence1 is 3"):
        labelled_of(row(sentence1=3, sentence2="x", label=1))


def test_pairs_have_negatives_or_a_score() -> None:
    assert pair_of(row(query="q", positive="p")) == TextPair("q", "p")
    assert pair_of(row(query="q", positive="p", negatives=["a", "b"])).negatives == ("a", "b")
    assert pair_of(row(query="q", positive="p", negative="a")).negatives == ("a",)
    assert pair_of(row(sentence1="q", sentence2="p", score=0.2)).score == 0.2
    assert pair_of(row(sentence1="q", sentence2="p", label=1)).score == 1.0
    assert pair_of(row(sentence1="q", sentence2="p")) == TextPair("q", "p")
    assert pair_of(row(sentence1="q", sentence2="p", score=0.5, label=7)).score == 0.5
    assert pair_of(row(sentence1="q", sentence2="p", label=True)) == TextPair("q", "p", score=1.0)
    largest = sys.float_info.max
    assert pair_of(row(sentence1="q", sentence2="p", score=largest)).score == largest
    for values, said in (
        ({"query": "q", "positive": "p", "negatives": 3}, "negatives is 3"),
        ({"query": "q", "positive": "p", "negative": 3}, "negative is 3, not a list of texts"),
        ({"query": "q", "positive": "p", "negative": ["\ud800"]}, "negative"),
        ({"query": "q"}, "the row has no positive"),
        ({"query": 3, "positive": "p"}, "query is 3, not text"),
        ({"sentence1": "q"}, "the row has no sentence2"),
        ({"sentence1": 3, "sentence2": "q"}, "sentence1 is 3"),
        ({"sentence1": "q", "sentence2": "p", "score": "high"}, "score is 'high', not a number"),
        ({"sentence1": "q", "sentence2": "p", "label": None}, "label is None, not a number"),
        ({"text": "q"}, "has the columns 'text', and no pair"),
    ):
        with pytest.raises(InputError, match=said) as error:
            pair_of(row(**values))
    assert error.value.hint == "query and positive; or sentence1, sentence2 and score"


def test_the_first_pair_that_can_be_read_says_whether_pairs_have_scores() -> None:
    scored, plain = row(sentence1="q", sentence2="p", score=0), row(query="q", positive="p")
    assert is_scored([row(text="no pair"), scored, plain])
    assert not is_scored([row(text="no pair"), plain, scored])
    assert not is_scored([row(text="no pair")])


def test_choices_have_answers_or_others() -> None:
    assert choices_of(row(query="q", positives=["a", "b"])) == Choices("q", ("a", "b"), ())
    assert choices_of(row(query="q", positives=[], negatives=["c"])) == Choices("q", (), ("c",))
    assert choices_of(row(query="q", positives=["a"], negatives=["c"])).negatives == ("c",)
    for values, said in (
        ({"query": " ", "positives": ["a"]}, "no question, or no text"),
        ({"query": "q", "positives": [], "negatives": []}, "no question, or no text"),
        ({"query": "q"}, "no question, or no text"),
        ({"query": "q", "positives": "a"}, "positives is 'a', not a list of texts"),
        ({"query": "q", "negatives": None}, "negatives is None, not a list of texts"),
        ({"positives": ["a"]}, "the row has no query"),
    ):
        with pytest.raises(InputError, match=said):
            choices_of(row(**values))


def test_tags_are_as_many_as_tokens() -> None:
    assert tagged_of(row(tokens=["a", "b"], tags=["O", "B-X"])).tags == ("O", "B-X")
    assert tagged_of(row(tokens=["a"], tags=[3])).tags == (3,)
    with pytest.raises(InputError, match="2 tokens and 1 tags"):
        tagged_of(row(tokens=["a", "b"], tags=["O"]))
    for tags in (["O", 1], [True, False], "OO"):
        with pytest.raises(InputError, match=r"tags is .*, not a list of names, or"):
            tagged_of(row(tokens=["a", "b"], tags=tags))
    for tokens, said in (([], "tokens is empty"), (3, "tokens is 3"), ([3], "tokens is .*texts")):
        with pytest.raises(InputError, match=said):
            tagged_of(row(tokens=tokens, tags=["O"]))
    with pytest.raises(InputError, match="the row has no tags"):
        tagged_of(row(tokens=["a"]))


def test_translations_have_two_sides() -> None:
    found = translation_of(row(source="one", target="eins"))
    assert (found.source, found.target) == ("one", "eins")
    with pytest.raises(InputError, match="the row has no target"):
        translation_of(row(source="one"))
    with pytest.raises(InputError, match="source is 1, not text"):
        translation_of(row(source=1, target="eins"))


PLAIN = st.sampled_from([None, True, 3, 0.5, float("nan"), "", "x", "\ud800"])
TURN = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "narrator", 3]),
        **dict.fromkeys(("content", "value", "name", "tool_calls", "tool_call_id"), PLAIN),
    },
)
JSON = PLAIN | st.lists(PLAIN | TURN, max_size=3) | TURN
COLUMNS = st.sampled_from(
    [
        *("text", "messages", "conversations", "instruction", "input", "output", "prompt"),
        *("completion", "chosen", "rejected", "label", "score", "query", "positive", "negatives"),
        *("sentence1", "sentence2", "tokens", "tags", "source", "target", "system", "tools"),
    ]
)


@given(st.dictionaries(COLUMNS, JSON, max_size=6))
def test_whatever_a_row_holds_it_is_read_or_refused_in_words(values: dict[str, Any]) -> None:
    for read in READERS:
        with contextlib.suppress(InputError):
            read(Row(values, "f:1"))


def test_text_must_be_text() -> None:
    assert text_of(row(text="x")) == "x"
    with pytest.raises(InputError, match="text is 3, not text"):
        text_of(row(text=3))
