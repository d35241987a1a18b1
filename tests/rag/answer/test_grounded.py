"""Answers behind the protocol of a language model: what it honours, refuses and counts."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.byte_tokens import smollm_bytes

from lmstack.core import (
    InputError,
    Message,
    Request,
    SamplingParams,
    ScriptedModel,
    UnsupportedError,
    complete,
)
from lmstack.rag import NOTHING, GroundedModel
from lmstack.rag.answer.grounded import CLOSEST, NOT_APPLIED, AnswerTokens

QUESTION = "How many requests may a client send a minute?"
UNANSWERED = "Who won the chess match in the winter of 1972?"
TRUE = "A client may send sixty requests a minute."
QUOTED = f"{TRUE} More are answered with status 429. [1]"


def _asked(question: str = QUESTION, **settings) -> Request:
    return Request((Message("user", question),), sampling=SamplingParams(**settings))


@pytest.fixture
def make_grounded(make_answerer):
    def make(model=None, *, tokenizer=None, list_sources=True, notes_system=False, **settings):
        answerer = make_answerer(model, **settings)
        how = {"list_sources": list_sources, "notes_system": notes_system}
        return GroundedModel(answerer, "docs", tokenizer=tokenizer, **how)

    return make


def _writing(make_grounded, model, **settings):
    return make_grounded(model, strategy="write", min_confidence=0, **settings)


async def test_an_answer_is_followed_by_its_sources(make_grounded):
    completion = await complete(make_grounded(), _asked())
    text, _, sources = completion.text.partition("\n\nSources:\n")
    assert text == QUOTED
    assert sources.startswith("[1] docs/serving.md (")
    assert sources.endswith(f'"{TRUE}"')
    assert completion.choices[0].finish_reason == "stop"
    bare = await complete(make_grounded(list_sources=False), _asked())
    assert bare.text == QUOTED


async def test_what_is_only_closest_is_called_so_before_its_text(make_grounded):
    completion = await complete(make_grounded(), _asked(UNANSWERED))
    assert completion.text.startswith(CLOSEST)
    assert "[3]" in completion.text.partition("\n\nSources:\n")[0]
    for certain in (QUESTION, "zyzzyva?"):
        assert CLOSEST not in (await complete(make_grounded(), _asked(certain))).text


async def test_nothing_found_is_said_without_sources(make_grounded):
    completion = await complete(make_grounded(min_closest=1), _asked(UNANSWERED))
    assert completion.text == NOTHING


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": 1}, "logprobs"),
        ({"stop": ("x",)}, "stop"),
        ({"logit_bias": {1: 1.0}}, "logit_bias"),
        ({"presence_penalty": 1.0}, "presence_penalty"),
    ],
)
@pytest.mark.parametrize("strategy", ["quote", "write"])
async def test_what_cannot_be_honoured_is_named(make_grounded, changes, param, strategy):
    model = make_grounded(strategy=strategy)
    with pytest.raises(UnsupportedError) as caught:
        await complete(model, _asked(**changes))
    assert caught.value.param == param
    assert "scripted" in caught.value.hint


@pytest.mark.parametrize("name", ["temperature", "top_p", "min_p"])
async def test_sampling_changes_nothing_where_nothing_is_drawn(make_grounded, name):
    plain = await complete(make_grounded(), _asked())
    assert (await complete(make_grounded(), _asked(**{name: 0.5}))).text == plain.text
    inner = ScriptedModel([TRUE])
    await complete(_writing(make_grounded, inner), _asked(**{name: 0.5}))
    assert getattr(inner.requests[0].sampling, name) == 0.5


async def test_system_messages_are_followed_in_writing_and_refused_in_quoting(make_grounded):
    request = Request((Message("system", "Be kind."), Message("user", QUESTION)))
    inner = ScriptedModel([TRUE])
    await complete(_writing(make_grounded, inner), request)
    assert "Be kind." in inner.requests[0].messages[0].content
    with pytest.raises(UnsupportedError) as caught:
        await complete(make_grounded(), request)
    assert caught.value.param == "messages.0.role"
    assert '"answers": "write" follows it, "system": "note" says' in caught.value.hint


async def test_a_system_message_that_is_noted_changes_nothing_but_the_end(make_grounded):
    request = Request((Message("system", "Be kind."), Message("user", QUESTION)))
    plain = await complete(make_grounded(), _asked())
    noted = await complete(make_grounded(notes_system=True), request)
    assert noted.text == plain.text + NOT_APPLIED
    assert (await complete(make_grounded(notes_system=True), _asked())).text == plain.text
    tokenizer = smollm_bytes()
    cut = replace(request, sampling=SamplingParams(max_tokens=3))
    short = await complete(make_grounded(notes_system=True, tokenizer=tokenizer), cut)
    assert short.text.endswith(NOT_APPLIED)
    inner = ScriptedModel([TRUE])
    writing = await complete(_writing(make_grounded, inner, notes_system=True), request)
    assert NOT_APPLIED not in writing.text


@pytest.mark.parametrize(
    ("asked", "used"), [({}, 0.0), ({"temperature": 0.7}, 0.7), ({"seed": 1}, 1.0)]
)
async def test_writing_is_greedy_unless_asked(make_grounded, asked, used):
    inner = ScriptedModel([TRUE])
    await complete(_writing(make_grounded, inner), _asked(**asked))
    assert inner.requests[0].sampling.temperature == used


async def test_max_tokens_is_refused_where_the_tokens_of_a_quotation_cannot_be_counted(
    make_grounded,
):
    with pytest.raises(UnsupportedError) as caught:
        await complete(make_grounded(), _asked(max_tokens=3))
    assert caught.value.param == "max_tokens"


async def test_a_quotation_is_counted_and_cut_by_the_models_tokenizer(make_grounded):
    tokenizer = smollm_bytes()
    whole = await complete(make_grounded(tokenizer=tokenizer), _asked())
    assert whole.usage.completion_tokens == len(
        tokenizer.encode(whole.text, add_special_tokens=False)
    )
    # The question and five passages.
    assert whole.usage.prompt_tokens > len(QUESTION) + len(QUOTED)
    cut = await complete(make_grounded(tokenizer=tokenizer), _asked(max_tokens=20))
    assert cut.text == QUOTED[:20]
    assert (cut.choices[0].finish_reason, cut.usage.completion_tokens) == ("length", 20)


async def test_the_words_before_the_closest_count_too(make_grounded):
    tokenizer = smollm_bytes()
    limit = len(tokenizer.encode(CLOSEST, add_special_tokens=False))
    cut = await complete(make_grounded(tokenizer=tokenizer), _asked(UNANSWERED, max_tokens=limit))
    assert cut.text == CLOSEST
    assert cut.choices[0].finish_reason == "length"


@pytest.mark.parametrize("limit", range(1, 14))
def test_a_cut_answer_has_whole_characters_and_no_more_tokens_than_asked_for(limit):
    tokenizer = smollm_bytes()
    tokens = AnswerTokens(tokenizer, limit)
    text = "".join(tokens.within(piece) for piece in ("a€", " the ü", "b"))
    assert "a€ the üb".startswith(text)
    assert len(tokenizer.encode(text, add_special_tokens=False)) <= limit
    assert tokens.cut == (text != "a€ the üb")


async def test_a_question_must_come_last(make_grounded):
    request = Request((Message("user", "a"), Message("assistant", "b")))
    with pytest.raises(InputError, match="last message"):
        await complete(make_grounded(), request)


async def test_earlier_messages_are_the_history(make_grounded):
    messages = (
        Message("user", "Where is the Skerryvore lighthouse?"),
        Message("assistant", "At sea."),
        Message("user", "How tall is it?"),
    )
    assert "48 metres tall" in (await complete(make_grounded(), Request(messages))).text


async def test_a_prompt_is_a_question_without_a_history(make_grounded):
    completion = await complete(make_grounded(list_sources=False), Request(prompt=QUESTION))
    assert completion.text == QUOTED
    with pytest.raises(UnsupportedError) as caught:
        await complete(make_grounded(), Request(prompt=(1, 2)))
    assert caught.value.param == "prompt"


async def test_the_models_own_limit_is_reported_as_such(make_grounded):
    inner = ScriptedModel([f"{TRUE} And more follows."])
    completion = await complete(_writing(make_grounded, inner), _asked(max_tokens=9))
    assert completion.choices[0].finish_reason == "length"
    assert completion.text.startswith(f"{TRUE} [1]")
    assert inner.requests[0].sampling.max_tokens == 9
