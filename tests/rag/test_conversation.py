"""A second question about the same documents computes what is new, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.byte_tokens import byte_level
from tests.serve.tiny_models import tiny_decoder

from lmstack.core import Message
from lmstack.engine import EngineConfig
from lmstack.rag import AnswerConfig, Answerer, Index
from lmstack.rag.answer.writing import EarlierTurn, build_messages
from lmstack.serve import LocalModel
from lmstack.text import ChatTemplate, Tokenizer

FIRST = "How many requests may a client send a minute?"
SECOND = "Which status do more requests a minute get?"
TEMPLATE = ChatTemplate(
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[assistant]"
)
WRITING = {"min_support": 0, "strategy": "write", "unsupported": "mark", "passages": 8}
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


async def test_second_turn_computes_only_its_own_tokens(index, model):
    config = AnswerConfig(max_tokens=20, **WRITING)
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


PASSAGES = [("a.md", "[1] One."), ("b.md", "[2] Two."), ("c.md", "[3] Three.")]


def test_messages_of_a_turn_begin_as_those_of_the_turn_before():
    first = build_messages("Why?", PASSAGES[:2], instructions="Be kind.")
    earlier = [EarlierTurn("Why?", "Since. [1]", 2)]
    second = build_messages("And how?", PASSAGES, instructions="Be kind.", earlier=earlier)
    assert second[: len(first)] == first
    assert second[len(first)] == Message("assistant", "Since.")
    assert "[3] Three." in second[-1].content
    assert "[1] One." not in second[-1].content
    same = build_messages("And how?", PASSAGES[:2], earlier=earlier)
    assert same[-1] == Message("user", "Question: And how?")


async def test_earlier_turns_give_way_where_the_prompt_does_not_fit(index, tokenizer):
    loaded = tiny_decoder(tokenizer, template=TEMPLATE, positions=1600)
    config = AnswerConfig(max_tokens=4, **WRITING)
    with LocalModel(loaded, EngineConfig(block_size=BLOCK, num_blocks=200)) as small:
        answer = await Answerer(index, small, config).answer(SECOND, [(FIRST, "x" * 900)])
    assert answer.usage.prompt_tokens < 1600
