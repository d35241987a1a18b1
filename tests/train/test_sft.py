"""Supervised fine-tuning: conversations with tools, as they are rendered when the model serves."""

from __future__ import annotations

import json
from importlib.resources import files
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lmstack.core import InputError, Tool, ToolCall
from lmstack.text import ChatTemplate, Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.text.calls.reader import CallReader, ToolCallDelta
from lmstack.text.training import CHATML
from lmstack.train.data.examples import IGNORED, Example
from lmstack.train.data.formats import messages_of, tools_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.distillation import Distillation
from lmstack.train.objectives.objective import Objective, Reading
from lmstack.train.objectives.sft import SupervisedFineTuning

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather.", "parameters": PARAMETERS}
CALL = {"name": "get_weather", "arguments": {"city": "Oslo"}}
ROW: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "What is it like in Oslo?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdefgh1", "function": CALL}]},
        {"role": "tool", "content": "snow, -3 degrees", "tool_call_id": "abcdefgh1"},
        {"role": "assistant", "content": "Cold and white."},
        {"role": "user", "content": "Thanks."},
        {"role": "assistant", "content": "You are welcome."},
    ],
    "tools": [{"type": "function", "function": FUNCTION}],
}
# Some show tools in a way of their own, the last two are told of them in words.
TEMPLATES = ("qwen2_5", "qwen3_training", "llama3", "gemma")


def tokenizer() -> Tokenizer:
    controls = VocabularyConfig(vocab_size=300, special_tokens=CHATML.special_tokens)
    return train_tokenizer(["the weather in Oslo is cold"] * 3, controls)


def template(name: str) -> ChatTemplate:
    if name == "chatml":
        return ChatTemplate(CHATML.template)
    source = files("trl").joinpath("chat_templates", f"{name}.jinja").read_text()
    return ChatTemplate(source, "<s>", "</s>")


def encoded(objective: Objective, name: str, **changes: Any) -> tuple[Example, Reading]:
    reading = Reading(tokenizer(), template(name), 4096)
    (example,) = objective.encode(Row({**ROW, **changes}, "f:1"), reading)
    return example, reading


def learned(example: Example) -> list[tuple[int, int]]:
    """The ranges of tokens that are learned."""
    assert example.labels is not None
    is_learned = np.concatenate([[False], example.labels != IGNORED, [False]])
    edges = np.flatnonzero(np.diff(is_learned.astype(int))).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("name", ["chatml", *TEMPLATES])
def test_each_turn_follows_the_prompt_that_serving_gives_it(name: str) -> None:
    example, reading = encoded(SupervisedFineTuning(), name)
    messages, tools = messages_of(Row(ROW, "")), tools_of(Row(ROW, ""))
    ids = example.sequences[0].tolist()
    chat = reading.template
    assert chat is not None
    turns = learned(example)
    places = [n for n, message in enumerate(messages) if message.role == "assistant"]
    assert len(turns) == len(places) == 3
    for (start, _), place in zip(turns, places, strict=True):
        prompt = chat.encode(messages[:place], reading.tokenizer, tools=tools)
        assert ids[:start] == prompt[: len(ids[:start])]
        assert not reading.tokenizer.decode(prompt[start:]).strip()
    assert ids == chat.encode(messages, reading.tokenizer, tools=tools, add_generation_prompt=False)


@pytest.mark.parametrize("name", ["chatml", *TEMPLATES])
def test_calls_are_learned_and_neither_tools_nor_their_results(name: str) -> None:
    example, reading = encoded(SupervisedFineTuning(), name)
    ids, decode = example.sequences[0].tolist(), reading.tokenizer.decode
    first, *rest = (decode(ids[start:stop]) for start, stop in learned(example))
    said = "".join((first, *rest))
    assert "-3 degrees" not in said
    assert "The weather." not in said
    assert "The weather." in decode(ids)
    assert "Cold and white." in rest[0]
    chat = reading.template
    assert chat is not None
    reader = CallReader(chat.call_format, tools_of(Row(ROW, "")), ("abcdefgh1",), {})
    opening = chat.call_format.opening
    found = [*reader.push(opening * (not first.startswith(opening)) + first, final=True)]
    parts = [part for part in found if isinstance(part, ToolCallDelta)]
    call = ToolCall(
        "abcdefgh1", "".join(p.name for p in parts), "".join(p.arguments for p in parts)
    )
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Oslo"})


def test_tools_as_json_text_without_the_function_around_them_are_the_same() -> None:
    """As data sets write them whose columns have one type for all rows."""
    one, _ = encoded(SupervisedFineTuning(), "chatml")
    for other in (json.dumps(ROW["tools"]), [FUNCTION], json.dumps([FUNCTION])):
        two, _ = encoded(SupervisedFineTuning(), "chatml", tools=other)
        assert np.array_equal(one.sequences[0], two.sequences[0])
    for nothing in (None, [], "", "[]"):
        without, reading = encoded(SupervisedFineTuning(), "chatml", tools=nothing)
        assert "The weather." not in reading.tokenizer.decode(without.sequences[0].tolist())


def test_a_student_is_shown_the_tools_too() -> None:
    one, _ = encoded(SupervisedFineTuning(), "chatml")
    two, _ = encoded(Distillation(teacher="there"), "chatml")
    assert np.array_equal(one.sequences[0], two.sequences[0])
    assert np.array_equal(one.labels, two.labels)


DEEP: Any = {"type": "object"}
for _ in range(200):
    DEEP = {"type": "object", "properties": {"x": DEEP}}


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (3, "tools is 3, not a list"),
        ("{", "tools is '{', not a list"),
        ([3], "a tool is 3"),
        ([{"function": {"description": "x"}}], "a tool is {'function'"),
        ([{"name": "two words"}], "a tool has the name 'two words'"),
        ([FUNCTION, FUNCTION], "two tools have the name 'get_weather'"),
        ([{**FUNCTION, "parameters": 3}], "the parameters of the tool get_weather are 3"),
        ([{**FUNCTION, "parameters": {"type": "array"}}], "have the type 'array'"),
        ([{**FUNCTION, "description": 3}], "the description of the tool get_weather is 3"),
        ([{**FUNCTION, "parameters": DEEP}], "not a list"),
    ],
)
def test_tools_that_are_none_are_a_bad_row(tools: Any, said: str) -> None:
    with pytest.raises(InputError) as error:
        encoded(SupervisedFineTuning(), "chatml", tools=tools)
    assert said in str(error.value)


def test_a_tool_may_have_a_name_alone() -> None:
    assert tools_of(Row({"tools": [{"name": "now"}]}, "")) == (Tool("now"),)
    null = {"name": "now", "description": None, "parameters": None}
    assert tools_of(Row({"tools": [null]}, "")) == (Tool("now"),)


def test_a_turn_of_one_token_is_learned_unless_nothing_precedes_it_or_it_is_cut_off() -> None:
    row = Row({"messages": [{"role": "assistant", "content": "x"}]}, "")

    def read(*span: int, max_length: int = 3) -> list[Example]:
        chat = SimpleNamespace(encode_turns=lambda *_, **__: ([7, 8, 9, 4], [span]))
        reading = Reading(tokenizer(), chat, max_length)  # type: ignore[arg-type]
        return [*SupervisedFineTuning().encode(row, reading)]

    for start in (1, 2):
        (example,) = read(start, start + 1)
        assert example.sequences[0].tolist() == [7, 8, 9]
        assert learned(example) == [(start, start + 1)]
        assert example.left_out == 1
    for start in (0, 3):
        with pytest.raises(InputError, match="no token of the assistant is within max_length, 3"):
            read(start, start + 1)
    assert read(3, 4, max_length=4)[0].left_out == 0
