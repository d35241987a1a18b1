"""A second question about the same documents computes what is new, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import Message, Request, SamplingParams, ScriptedModel, complete
from lmstack.engine import EngineConfig
from lmstack.rag import AnswerConfig, Answerer, Index
from lmstack.rag.answers.likelihood import suffix_likelihoods
from lmstack.rag.answers.prompting import EarlierTurn, build_messages
from lmstack.serve import LocalModel
from lmstack.text import ChatTemplate, Tokenizer

FIRST = "How many requests may a client send a minute?"
SECOND = "Which status do more requests a minute get?"
TEMPLATE = ChatTemplate(
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
)
LOOSE = {"min_evidence": -1, "candidate_margin": 10, "candidates": 20, "passages": 8}
BLOCK = 16


@pytest.fixture
def index(tmp_path, docs, embedder, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update(["docs"])
        yield opened


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_json(byte_level("<|end|>").to_str(), {"eos_token": "<|end|>"})


@pytest.fixture
def model(tokenizer: Tokenizer) -> Iterator[LocalModel]:
    loaded = tiny_decoder(tokenizer, template=TEMPLATE, positions=8192)
    with LocalModel(loaded, EngineConfig(block_size=BLOCK, num_blocks=2000)) as made:
        yield made


@pytest.mark.parametrize("strategy", ["extractive", "generative"])
async def test_second_turn_computes_only_its_own_tokens(index, model, strategy):
    config = AnswerConfig(strategy=strategy, max_tokens=20, unsupported="mark", **LOOSE)
    answerer = Answerer(index, model, config)
    first = await answerer.answer(FIRST)
    before = model.stats()
    second = await answerer.answer(SECOND, [(FIRST, first.answer)])
    after = model.stats()
    reused = after.num_prefix_hits - before.num_prefix_hits
    assert second.usage.cached_tokens == reused
    # All of the first prompt, its passages included, is taken as it was computed.
    assert reused >= first.usage.prompt_tokens - len("[assistant]") - BLOCK
    new = len(f"[assistant]{first.answer}[user]Question: {SECOND}[assistant]".encode())
    assert second.usage.prompt_tokens - reused <= new + 2 * BLOCK


async def test_likelihoods_of_a_second_question_compute_the_question_alone(model):
    passage = "The tower at Skerryvore is forty-eight metres tall. " * 4
    pairs = [(f"{passage}\n\nQuestion:", f" {FIRST}")]
    scored = await suffix_likelihoods(model, pairs)
    again = await suffix_likelihoods(model, [(pairs[0][0], f" {SECOND}")])
    assert scored is not None
    assert again is not None
    assert scored[1].cached_tokens == 0
    assert again[1].prompt_tokens - again[1].cached_tokens <= len(f" {SECOND}") + BLOCK


async def test_a_cached_beginning_does_not_change_likelihoods(model):
    pairs = [("The tower is tall.\n\nQuestion:", f" {FIRST}")]
    first = await suffix_likelihoods(model, pairs)
    second = await suffix_likelihoods(model, pairs)
    request = Request(
        prompt="".join(pairs[0]),
        echo=True,
        sampling=SamplingParams(max_tokens=1, temperature=0, logprobs=0),
    )
    tokens = (await complete(model, request)).choices[0].logprobs
    count = len(pairs[0][1])
    mean = sum(t.logprob for t in tokens[-count - 1 : -1]) / count
    assert first is not None
    assert second is not None
    assert first[0] == second[0] == pytest.approx([mean], abs=1e-5)


async def test_sentences_are_embedded_once(index, embedder):
    answerer = Answerer(index, ScriptedModel(), AnswerConfig(strategy="similarity", **LOOSE))
    await answerer.answer(FIRST)
    embedder.embedded.clear()
    await answerer.answer(FIRST, [("Which port?", "8000.")])
    assert embedder.embedded == []
    await answerer.answer(SECOND)
    assert len(embedder.embedded) <= 6


async def test_what_a_second_question_needs_is_embedded_while_nobody_asks(index, embedder):
    config = AnswerConfig(strategy="similarity", **LOOSE)
    answerer = Answerer(index, ScriptedModel(), config, read_ahead=True)
    first = await answerer.answer("How many requests may clients send?")
    assert answerer.wait(20)
    embedder.embedded.clear()
    await answerer.answer("Which status do they get?", [("How many requests?", first.answer)])
    answerer.close()
    # The question, and that without names: no sentence.
    assert len(embedder.embedded) <= 2


PASSAGES = [("a.md", "[1] One."), ("b.md", "[2] Two."), ("c.md", "[3] Three.")]


@pytest.mark.parametrize("fence_each", [False, True])
@pytest.mark.parametrize("generative", [False, True])
def test_messages_of_a_turn_begin_as_those_of_the_turn_before(fence_each, generative):
    options = {"generative": generative, "fence_each": fence_each}
    first = build_messages("Why?", PASSAGES[:2], **options)
    earlier = [EarlierTurn("Why?", "Since. [1]", 2)]
    second = build_messages("And how?", PASSAGES, earlier=earlier, **options)
    assert second[: len(first)] == first
    assert second[len(first)] == Message("assistant", "Since.")
    assert "[3] Three." in second[-1].content
    assert "[1] One." not in second[-1].content
    same = build_messages("And how?", PASSAGES[:2], earlier=earlier, **options)
    assert same[-1] == Message("user", "Question: And how?")


async def test_earlier_turns_give_way_where_the_prompt_does_not_fit(index, tokenizer):
    loaded = tiny_decoder(tokenizer, template=TEMPLATE, positions=1600)
    config = AnswerConfig(strategy="generative", max_tokens=4, unsupported="mark", **LOOSE)
    with LocalModel(loaded, EngineConfig(block_size=BLOCK, num_blocks=200)) as small:
        answer = await Answerer(index, small, config).answer(SECOND, [(FIRST, "x" * 900)])
    assert answer.usage.prompt_tokens < 1600
