"""Causal language modelling: pieces of documents, their ends, and what their text may hold."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.packages import package
from tests.train.test_translation import T5
from tokenizers.processors import TemplateProcessing

import lmstack
from lmstack.core import InputError
from lmstack.registry import Store
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.text.training import Kind
from lmstack.train import read_recipe, train
from lmstack.train.data.examples import IGNORED, Example
from lmstack.train.data.rows import Row
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.span_corruption import SpanCorruption

TEXT = "the cat sat on the mat and saw a dog"


@cache
def vocabulary() -> Tokenizer:
    return train_tokenizer([TEXT] * 9, VocabularyConfig(vocab_size=280))


def examples_of(text: str, max_length: int, tokenizer: Tokenizer | None = None) -> list[Example]:
    reading = Reading(tokenizer or vocabulary(), None, max_length)
    return list(CausalLM().encode(Row({"text": text}, "here"), reading))


@given(repeats=st.integers(1, 30), max_length=st.integers(2, 40))
@settings(max_examples=60, deadline=None)
def test_every_token_but_the_first_is_predicted_once(repeats: int, max_length: int) -> None:
    text = f"{TEXT} " * repeats
    examples = examples_of(text, max_length)
    assert all(1 < example.tokens <= max_length for example in examples)
    batch = CausalLM().collate(examples, Reading(vocabulary(), None, max_length))
    predicted = batch.labels[batch.labels != IGNORED].tolist()
    assert predicted == [*vocabulary().encode(text), vocabulary().eos_id][1:]


def test_a_control_token_in_a_document_is_text() -> None:
    [example] = examples_of("one<|endoftext|>two", 64)
    (ids,) = example.sequences
    assert np.flatnonzero(ids == vocabulary().eos_id).tolist() == [len(ids) - 1]
    assert vocabulary().decode(ids[:-1].tolist()) == "one<|endoftext|>two"


def test_an_end_that_the_tokenizer_adds_comes_once() -> None:
    backend = vocabulary().backend.__class__.from_str(vocabulary().backend.to_str())
    end = ("<|endoftext|>", vocabulary().eos_id)
    backend.post_processor = TemplateProcessing(f"$A {end[0]}", special_tokens=[end])
    adding = Tokenizer.from_json(backend.to_str(), {"eos_token": end[0]})
    [example] = examples_of("the cat", 64, adding)
    assert example.sequences[0].tolist() == [*vocabulary().encode("the cat"), vocabulary().eos_id]


def test_a_vocabulary_without_an_end_is_refused_in_words() -> None:
    without = Tokenizer.from_json(vocabulary().backend.to_str(), {})
    with pytest.raises(InputError, match="no token that ends a text", check=about("tokenizer")):
        examples_of("the cat", 64, without)


LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "tie_word_embeddings": True,
}
BERT = {**LLAMA, "model_type": "bert", "architectures": ["BertForMaskedLM"]}
LEARNERS: dict[str, tuple[Kind, dict[str, object]]] = {
    "causal": ("bpe", LLAMA),
    "masked": ("wordpiece", BERT),
    "span-corruption": ("bpe", {**T5, "d_model": 96, "d_kv": 24, "d_ff": 256}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", LEARNERS)
def test_the_loss_falls_on_speeches(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights_store: Store
) -> None:
    """State of the Union, a minute of a small model: each evaluation is better than the one
    before, and the last better than what follows from how often each token comes."""
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    kind, model = LEARNERS[name]
    folder = package(weights_store.root, "speeches")
    speeches = [path.read_text() for path in sorted(folder.rglob("*.txt"))]
    paragraphs = [p for text in speeches for p in text.split("\n") if len(p) > 80]
    more = tuple(f"<extra_id_{n}>" for n in range(40)) if name == "span-corruption" else ()
    config = VocabularyConfig(kind=kind, vocab_size=2000, special_tokens=more)
    tokenizer = train_tokenizer(paragraphs, config)
    tokenizer.save(tmp_path / "tokenizer")
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in paragraphs))
    values = {
        "objective": name,
        "model": model,
        "tokenizer": str(tmp_path / "tokenizer"),
        "data": str(data),
        "validation": 0.05,
        "output": str(tmp_path / "made"),
        "run": str(tmp_path / "run"),
        "max_length": 128,
        "batch": 16,
        "steps": 500,
        "eval_every": 125,
        "lr": 1e-3,
        "precision": "bfloat16",
    }
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(values))
    result = train(read_recipe(recipe))
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["validation_loss"] for line in lines if "validation_loss" in line]
    assert losses == sorted(losses, reverse=True)
    assert len(losses) == 4
    texts = [tokenizer.encode(text, add_special_tokens=False) for text in paragraphs]
    shares = np.bincount(np.concatenate(texts)) / sum(map(len, texts))
    unigram = -float((shares[shares > 0] * np.log(shares[shares > 0])).sum())
    if name == "span-corruption":  # sentinels and the end are certain
        counts = [SpanCorruption().counts(min(len(ids), 140)) for ids in texts]
        noise = sum(tokens for tokens, _ in counts)
        unigram *= noise / sum(tokens + spans + 2 for tokens, spans in counts)
    assert result.values["loss"] < unigram
    if name == "causal":
        torch.manual_seed(0)
        with lmstack.load(str(result.folder)) as served:
            text = served.generate("The people of the", temperature=0, max_tokens=30)
        common = set(" ".join(paragraphs).split())
        words = text.split()[1:-1]  # the ends may be cut
        assert len(words) > 5
        assert np.mean([word in common for word in words]) > 0.8
