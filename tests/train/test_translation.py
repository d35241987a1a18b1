"""Sequence to sequence: batches, and the loss and gradients of transformers."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.errors import about
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    MarianConfig,
    MarianMTModel,
    T5Config,
    T5ForConditionalGeneration,
)

import lmstack
from lmstack.core import InputError
from lmstack.model import ForwardContext, Transformer, load_module
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.compute import ops_for
from lmstack.train.data.examples import IGNORED
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.translation import Translation

WORDS = {"cat": "gato", "dog": "perro", "sees": "ve", "the": "el", "big": "grande", "old": "viejo"}
PAIRS = [
    (f"the {a} {b} sees the {c} {d}", f"el {WORDS[b]} {WORDS[a]} ve el {WORDS[d]} {WORDS[c]}")
    for a in ("big", "old")
    for b in ("cat", "dog")
    for c in ("big", "old")
    for d in ("cat", "dog")
]
T5 = {
    "model_type": "t5",
    "architectures": ["T5ForConditionalGeneration"],
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "n_positions": 64,
}


@cache
def vocabulary() -> Tokenizer:
    """As T5's: padding 0, an end, and sentinels."""
    texts = [text for pair in PAIRS for text in pair]
    more = tuple(f"<extra_id_{n}>" for n in range(20))
    return train_tokenizer(texts * 4, VocabularyConfig("bpe", 330, special_tokens=more))


def reading_of(start: int = 0, max_length: int = 64) -> Reading:
    return Reading(vocabulary(), None, max_length, decoder_start=start)


def model_of(family: str, size: int) -> torch.nn.Module:
    sides = {
        f"{side}_{part}": value
        for side in ("encoder", "decoder")
        for part, value in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 64))
    }
    shared: dict[str, Any] = {"vocab_size": size, "d_model": 32, "dropout": 0.0, **sides}
    shared |= {"pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0}
    if family == "t5":
        sizes = {k: v for k, v in T5.items() if k not in ("model_type", "architectures")}
        return T5ForConditionalGeneration(
            T5Config(**sizes, vocab_size=size, dropout_rate=0.0, decoder_start_token_id=0)
        )
    if family == "bart":
        return BartForConditionalGeneration(BartConfig(**shared, decoder_start_token_id=2))
    return MarianMTModel(MarianConfig(**shared, decoder_start_token_id=0))


@pytest.mark.parametrize(("family", "start"), [("t5", 0), ("bart", 2), ("marian", 0)])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_and_gradients_are_those_of_transformers(
    family: str, start: int, smoothing: float, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    tokenizer, reading = vocabulary(), reading_of(start)
    objective = Translation(label_smoothing=smoothing)
    theirs = model_of(family, tokenizer.vocab_size).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_module(tmp_path)
    rows = [Row({"source": s * (1 + n % 3), "target": t}, "") for n, (s, t) in enumerate(PAIRS[:5])]
    examples = [example for row in rows for example in objective.encode(row, reading)]
    batch = objective.collate(examples, reading)
    loss = objective.loss(ours, batch, ForwardContext())
    loss.total.backward()  # type: ignore[no-untyped-call]
    output = theirs(
        input_ids=batch.inputs["input_ids"],
        attention_mask=batch.inputs["attention_mask"].long(),
        labels=batch.labels,
    )
    if smoothing:
        total = torch.nn.functional.cross_entropy(
            output.logits.flatten(0, 1),
            batch.labels.flatten(),
            reduction="sum",
            label_smoothing=smoothing,
            ignore_index=IGNORED,
        )
    else:
        total = output.loss * batch.weight
    total.backward()
    assert loss.total.item() == pytest.approx(total.item(), rel=1e-5)
    shared = dict(theirs.named_parameters())
    name = "shared.weight" if family == "t5" else "model.shared.weight"
    for table in (ours.embed.weight, shared[name]):
        assert table.grad is not None
        table.grad[0] = 0  # torch keeps back that of the row for padding
    torch.testing.assert_close(ours.embed.weight.grad, shared[name].grad, rtol=1e-3, atol=1e-4)
    norms = [
        # final_logits_bias of BART and Marian is no parameter there.
        sum((p.grad**2).sum() for n, p in named if p.grad is not None and n != "head_bias.bias")
        for named in (ours.named_parameters(), theirs.named_parameters())
    ]
    assert float(norms[0]) == pytest.approx(float(norms[1]), rel=1e-3)


def test_the_decoder_reads_the_target_shifted_and_only_real_targets_count() -> None:
    reading = reading_of(start=7)
    objective = Translation(prefix="to Spanish: ")
    pairs = [("the cat", "el gato"), ("the old dog sees the cat", "el perro viejo ve el gato")]
    examples = [
        example
        for source, target in pairs
        for example in objective.encode(Row({"source": source, "target": target}, ""), reading)
    ]
    batch = objective.collate(examples, reading)
    tokenizer = vocabulary()
    for row, (source, target) in enumerate(pairs):
        mask = batch.inputs["attention_mask"][row]
        read = batch.inputs["input_ids"][row][mask]
        assert tokenizer.decode(read.tolist()) == f"to Spanish: {source}"
        labels = batch.labels[row][batch.labels[row] != IGNORED]
        wanted = [*tokenizer.encode(target), tokenizer.eos_id]
        assert labels.tolist() == wanted
        decoder = batch.inputs["decoder_input_ids"][row][: len(labels)]
        assert decoder.tolist() == [7, *wanted[:-1]]
    assert batch.weight == sum(example.sequences[1].size for example in examples)


@pytest.mark.parametrize("family", ["t5", "bart", "marian"])
def test_padding_changes_no_loss_and_bfloat16_little(family: str, tmp_path: Path) -> None:
    torch.manual_seed(2)
    model_of(family, vocabulary().vocab_size).save_pretrained(tmp_path)
    model, reading, objective = load_module(tmp_path), reading_of(), Translation()
    assert isinstance(model, Transformer)
    rows = [Row({"source": s * (1 + n % 3), "target": t}, "") for n, (s, t) in enumerate(PAIRS[:4])]
    examples = [example for row in rows for example in objective.encode(row, reading)]
    with torch.no_grad():
        together = objective.loss(model, objective.collate(examples, reading), ForwardContext())
        alone = sum(
            float(objective.loss(model, objective.collate([e], reading), ForwardContext()).total)
            for e in examples
        )
        half = ForwardContext(ops=ops_for("bfloat16", model))
        rounded = objective.loss(model, objective.collate(examples, reading), half)
    assert float(together.total) == pytest.approx(alone, rel=1e-5)
    assert float(rounded.total) == pytest.approx(alone, rel=0.02)


def test_a_pair_that_is_too_long_is_left_out_in_words() -> None:
    row = Row({"source": "the cat " * 60, "target": "el gato"}, "here")
    with pytest.raises(InputError, match=r"the source has .* tokens, max_length is 64"):
        list(Translation().encode(row, reading_of()))
    fits = Row({"source": "the cat", "target": "the cat"}, "")
    (example,) = Translation().encode(fits, reading_of())
    longest = max(map(len, example.sequences))
    assert [each.dtype for each in example.sequences] == [np.int32, np.int32]
    assert [*Translation().encode(fits, reading_of(max_length=longest))]
    with pytest.raises(InputError, match=f"the target has {longest} tokens, max_length is"):
        list(Translation().encode(fits, reading_of(max_length=longest - 1)))


def test_a_prefix_that_is_no_text_is_refused() -> None:
    with pytest.raises(InputError, match="prefix is 3", check=about("prefix")):
        objective_named("translation", {"prefix": 3})


def recipe_of(folder: Path, model: dict[str, Any], objective: Any, rows: list[Any]) -> Path:
    vocabulary().save(folder / "tokenizer")
    data = folder / "data.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    values = {
        "objective": objective,
        "validation": 0,
        "model": model,
        "tokenizer": str(folder / "tokenizer"),
        "data": str(data),
        "output": str(folder / "made"),
        "run": str(folder / "run"),
        "max_length": 64,
        "batch": 16,
        "steps": 120,
        "lr": 0.01,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_fresh_encoder_decoder_learns_to_translate_and_is_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    rows = [{"source": source, "target": target} for source, target in PAIRS[:4]]
    recipe = recipe_of(tmp_path, {**T5, "num_layers": 1}, "translation", rows)
    result = train(read_recipe(recipe, ["validation=0", "steps=80", "batch=4"]))
    assert result.values["loss"] < 0.2
    with lmstack.load(str(result.folder)) as model:
        assert np.mean([model.generate(s, temperature=0) == t for s, t in PAIRS[:4]]) > 0.7


def test_a_decoder_alone_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    llama = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
    }
    recipe = recipe_of(tmp_path, llama, "translation", [{"source": "a", "target": "b"}])
    with pytest.raises(InputError, match="no encoder apart from its decoder", check=about("base")):
        train(read_recipe(recipe))


def test_a_start_beyond_the_vocabulary_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    model = {**T5, "decoder_start_token_id": 99_999}
    recipe = recipe_of(tmp_path, model, "translation", [{"source": "a", "target": "b"}])
    with pytest.raises(InputError, match="begins with the token 99999", check=about("model")):
        train(read_recipe(recipe))
