"""Chains of thought: the answer that was marked, or asked for once more, and never a guess."""

from __future__ import annotations

from functools import cache

import pytest
from tests.prompting.models import Unheld

from lmstack.core import FinishReason, InputError, Message, Request, SamplingParams, ScriptedModel
from lmstack.prompting import ChainOfThought, PromptTemplate, think


@cache
def usual() -> ChainOfThought:
    return ChainOfThought()


def ask(**sampling: float) -> Request:
    prompt = PromptTemplate.of("{{q}}").with_thinking(usual()).fill(q="3 + 4?")
    return prompt.request(SamplingParams.from_mapping(sampling))


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("3 and 4 are 7.\nAnswer: 7", "7"),
        ("Answer: 6? No.\nAnswer: 7", "7"),
        ("so\n**Answer:** 7", "7"),
        ("so\n- answer: `7`\n", "7"),
        ("so\nAnswer:\n\n7\n", "7"),
        ("# Answer: **seven apples**", "seven apples"),
        ("The answer is 7.", None),
        ("My Answer: 7", None),
        ("Answer: -7", "-7"),
        ("Answer: C#", "C#"),
        ("Answer:", None),
        ("", None),
    ],
)
def test_the_answer_is_what_stands_after_the_last_marker(text: str, answer: str | None) -> None:
    assert usual().extract(text) == answer


@pytest.mark.parametrize(
    ("text", "finish", "answer"),
    [
        ("Answer: 1", "length", None),  # of 12, perhaps
        ("Answer: 12\n", "length", None),
        ("Answer: 12\nThat is", "length", "12"),
        ("Answer:\n12\nsince", "length", "12"),
        ("Answer: 12", "stop", "12"),
        ("3 and 9 are\nmore than 10.\nAnswer: 1", "length", None),
        ("3 and 9 are\nmore than 10.\nAnswer:\n1", "length", None),
        ("3 and 9 are\nmore than 10.\nAnswer:\n12\nsince", "length", "12"),
    ],
)
def test_an_answer_that_was_cut_is_none(
    text: str, finish: FinishReason, answer: str | None
) -> None:
    assert usual().extract(text, finish) == answer


async def test_a_marked_answer_takes_one_request() -> None:
    model = ScriptedModel(["3 and 4 are 7.\nSo it is clear.\nAnswer: 7"])
    thought = await think(model, ask(), usual())
    assert (thought.answer, thought.reasoning) == ("7", "3 and 4 are 7.\nSo it is clear.")
    assert (thought.asked_again, thought.is_cut, len(model.requests)) == (False, False, 1)


async def test_without_one_the_answer_alone_is_asked_for_in_a_few_tokens() -> None:
    model = ScriptedModel(["I get seven.", " 7. "])
    thought = await think(model, ask(temperature=0.8, max_tokens=300), usual())
    assert (thought.answer, thought.text, thought.asked_again) == ("7.", "I get seven.", True)
    first, second = model.requests
    assert second.messages[:-2] == first.messages
    assert second.messages[-2] == Message("assistant", "I get seven.")
    assert second.messages[-1].content == usual().follow_up
    assert (second.sampling.max_tokens, second.sampling.temperature) == (32, 0)
    assert second.prompt_digest == first.prompt_digest != ""
    assert thought.usage.completion_tokens == 3 + 2


async def test_the_answer_alone_is_drawn_from_all_tokens() -> None:
    drawn = {"temperature": 0.8, "top_p": 0.5, "min_p": 0.2, "typical_p": 0.3}
    model = ScriptedModel(["I get seven.", "7"])
    await think(model, ask(**drawn), usual())
    first, second = (request.sampling for request in model.requests)
    assert {name: getattr(first, name) for name in drawn} == drawn
    assert [getattr(second, name) for name in drawn] == [0, 1, 0, 1]


async def test_a_model_that_said_nothing_is_asked_without_a_turn_of_it() -> None:
    model = ScriptedModel([" ", "*7*\n"])
    thought = await think(model, ask(), usual())
    assert thought.answer == "7"
    assert [message.role for message in model.requests[1].messages] == ["user", "user"]


@pytest.mark.parametrize("marker", ["", " ", "**", "Answer:\nso", "Answer:\n"])
def test_a_marker_is_one_line_with_something_on_it(marker: str) -> None:
    with pytest.raises(InputError, match="the marker is") as caught:
        ChainOfThought(marker=marker)
    assert (caught.value.param, caught.value.hint) == ("marker", '"Answer:"')


def test_what_is_stated_and_written_names_the_marker() -> None:
    assert ChainOfThought(instruction="End with Answer: X").stated == "End with Answer: X"
    assert 'begins with "Answer:"' in usual().stated
    assert usual().written("since", "7") == "since\nAnswer: 7"
    assert usual().written("", "7") == "Answer: 7"
    assert usual().reasoning("I get\nseven. \n") == "I get\nseven."
    assert usual().reasoning("so\nAnswer: 6\n\nno\n**answer:** 7\n") == "so\nAnswer: 6\n\nno"


async def test_a_chain_that_was_cut_is_asked_for_its_answer_too() -> None:
    model = ScriptedModel(["Answer: 71 or so", "Answer: 7"])
    thought = await think(model, ask(max_tokens=2), usual())
    assert (thought.answer, thought.is_cut, thought.asked_again) == ("7", True, True)


async def test_a_reply_that_is_cut_is_no_answer() -> None:
    chain = ChainOfThought(follow_up_tokens=2)
    thought = await think(ScriptedModel(["well", "it is seven of them"]), ask(), chain)
    assert thought.answer is None
    assert thought.asked_again


@pytest.mark.parametrize("kind", [ScriptedModel, Unheld])
async def test_a_form_reads_the_answer_and_holds_the_second_reply(
    kind: type[ScriptedModel],
) -> None:
    thought = await think(kind(["so\nAnswer: 7."]), ask(), usual(), form=["6", "7"])
    assert (thought.answer, thought.asked_again) == ("7", False)
    model = kind(["so\nAnswer: seven", "7"])
    thought = await think(model, ask(), usual(), form=["6", "7"])
    assert (thought.answer, thought.asked_again) == ("7", True)
    assert (model.requests[1].grammar is not None) == (kind is ScriptedModel)
    thought = await think(kind(["so\nAnswer: 7"]), ask(), usual(), form=int)
    assert thought.answer == 7


async def test_no_answer_is_none_and_counts_its_tokens() -> None:
    thought = await think(ScriptedModel(["well", "who knows"]), ask(), usual(), form=["6", "7"])
    assert (thought.answer, thought.usage.completion_tokens) == (None, 1 + 2)
    model = ScriptedModel(["well"])
    thought = await think(model, ask(), ChainOfThought(follow_up=""))
    assert (thought.answer, thought.asked_again, len(model.requests)) == (None, False, 1)


async def test_raw_prompts_and_several_choices_are_refused() -> None:
    for request, param in ((Request(prompt="x"), "messages"), (ask(n=2), "n")):
        with pytest.raises(InputError, match="one choice of a conversation") as caught:
            await think(ScriptedModel(), request, usual())
        assert caught.value.param == param
