"""Masked language modelling: what is hidden, how often, and what is learned from it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from tests.errors import about
from transformers import (
    BertConfig,
    BertForMaskedLM,
    DataCollatorForLanguageModeling,
    PreTrainedTokenizerFast,
)

from lmstack.core import InputError
from lmstack.model import ForwardContext, Transformer, load_module, write_folder
from lmstack.model.families import config_from_json
from lmstack.registry import load
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.text.training import Kind
from lmstack.train import read_recipe, train
from lmstack.train.data.examples import IGNORED, Example
from lmstack.train.data.rows import Row
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.masked import MaskedLM
from lmstack.train.objectives.objective import Reading

TEXTS = [
    f"Unbelievable things happened, didn't they? {n} foxes jumped over {n + 1} lazier dogs; "
    f"über-naïve café number{n}x internationalization."
    for n in range(80)
]
CERTAIN = 1e-4  # a right program fails one test of ten thousand
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
}
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SIZES}


@cache
def tokenizer_of(kind: Kind) -> Tokenizer:
    """One of each kind, with a mask; small, so that words have several tokens."""
    more = () if kind == "wordpiece" else ("<mask>",)
    roles = None if kind == "wordpiece" else {"mask_token": "<mask>"}
    sizes = {"wordpiece": 120, "unigram": 120, "bpe": 320, "sentencepiece-bpe": 330}
    config = VocabularyConfig(kind=kind, vocab_size=sizes[kind], special_tokens=more)
    return train_tokenizer(TEXTS, config, roles=roles)


def reading_of(kind: Kind = "wordpiece", max_length: int = 128) -> Reading:
    return Reading(tokenizer_of(kind), None, max_length)


def examples_of(reading: Reading, texts: list[str] = TEXTS) -> list[Example]:
    objective = MaskedLM()
    return [e for text in texts for e in objective.encode(Row({"text": text}, "here"), reading)]


def draws(
    objective: MaskedLM, reading: Reading, times: int = 8
) -> Iterator[tuple[Example, Example]]:
    for index, example in enumerate(examples_of(reading)):
        for time in range(times):
            rng = np.random.default_rng([time, index])
            yield example, objective.noised(example, rng, reading)


def counted(objective: MaskedLM, reading: Reading) -> dict[str, int]:
    """Tokens that may be chosen, by what became of them."""
    mask = reading.tokenizer.id_of(reading.tokenizer.name_of("mask_token"))
    counts = dict.fromkeys(("mask", "random", "kept", "left"), 0)
    for before, after in draws(objective, reading):
        (ids,), (shown,), labels, words = (
            before.sequences,
            after.sequences,
            after.labels,
            before.labels,
        )
        assert labels is not None
        assert words is not None
        chosen = labels != IGNORED
        counts["mask"] += int((chosen & (shown == mask)).sum())
        counts["kept"] += int((chosen & (shown == ids)).sum())
        counts["random"] += int((chosen & (shown != mask) & (shown != ids)).sum())
        counts["left"] += int(((words != IGNORED) & ~chosen).sum())
    return counts


@pytest.mark.parametrize("rate", [0.05, 0.15, 0.4])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_shares_are_those_of_the_definition(rate: float, kind: Kind) -> None:
    reading = reading_of(kind)
    found = counted(MaskedLM(rate=rate), reading)
    total = sum(found.values())
    ordinary = reading.tokenizer.vocab_size - len(reading.tokenizer.special_ids)
    same = 0.1 / ordinary  # a random token may be the one that was there
    shares = {"mask": 0.8, "random": 0.1 - same, "kept": 0.1 + same}
    expected = [rate * shares[name] * total for name in shares] + [(1 - rate) * total]
    assert chisquare(list(found.values()), expected).pvalue > CERTAIN


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "sentencepiece-bpe", "unigram"])
def test_words_are_hidden_whole_and_each_with_the_same_probability(kind: Kind) -> None:
    reading, rate = reading_of(kind), 0.2
    chosen = words = 0
    for before, after in draws(MaskedLM(rate=rate, whole_word=True), reading):
        assert before.labels is not None
        assert after.labels is not None
        for word in np.unique(before.labels[before.labels != IGNORED]):
            hidden = after.labels[before.labels == word] != IGNORED
            assert hidden.all() or not hidden.any()
            chosen, words = chosen + int(hidden.any()), words + 1
    assert chisquare([chosen, words - chosen], [rate * words, (1 - rate) * words]).pvalue > CERTAIN
    found = counted(MaskedLM(rate=rate, whole_word=True), reading)
    drawn = [found[name] for name in ("mask", "random", "kept")]
    ordinary = reading.tokenizer.vocab_size - len(reading.tokenizer.special_ids)
    shares = np.array([0.8, 0.1 - 0.1 / ordinary, 0.1 + 0.1 / ordinary])
    assert chisquare(drawn, shares * sum(drawn)).pvalue > CERTAIN


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("wordpiece", ["Unbelievable", "foxes", ",", "jumped", "number7x"]),
        ("bpe", ["Unbelievable", " foxes", ",", " jumped", " number", "7", "x"]),
        ("sentencepiece-bpe", ["Unbelievable", " foxes,", " jumped", " number", "7", "x"]),
    ],
)
def test_a_word_is_what_the_tokenizer_cuts_text_into(kind: Kind, words: list[str]) -> None:
    reading = reading_of(kind)
    [example] = examples_of(reading, ["Unbelievable foxes, jumped number7x"])
    assert example.labels is not None
    (ids,) = example.sequences
    found = [
        reading.tokenizer.decode([int(i) for i in ids[example.labels == n]])
        for n in np.unique(example.labels[example.labels != IGNORED])
    ]
    # Decoded alone a word may gain or lose the space before it.
    assert [word.strip() for word in found] == [word.strip() for word in words]


def test_random_tokens_are_drawn_alike_and_none_is_special() -> None:
    reading = reading_of()
    tokenizer = reading.tokenizer
    ordinary = [i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids]
    counts = dict.fromkeys(ordinary, 0)
    mask = tokenizer.id_of("[MASK]")
    for before, after in draws(MaskedLM(rate=0.9), reading, times=60):
        assert after.labels is not None
        (ids,), (shown,) = before.sequences, after.sequences
        for token in shown[(after.labels != IGNORED) & (shown != mask) & (shown != ids)]:
            counts[int(token)] += 1  # a special one has no place here
    # Each differs from what it replaces, so frequent tokens come up less often by a little.
    replaced = np.bincount(
        np.concatenate([e.sequences[0] for e in examples_of(reading)]),
        minlength=tokenizer.vocab_size,
    )[ordinary]
    share = 1 - replaced / replaced.sum()
    expected = share / share.sum() * sum(counts.values())
    assert chisquare(list(counts.values()), expected).pvalue > CERTAIN


def test_the_unknown_token_is_not_learned() -> None:
    reading = reading_of()
    [example] = examples_of(reading, ["foxes 日本 jumped"])
    assert example.labels is not None
    unknown = example.sequences[0] == reading.tokenizer.unk_id
    assert unknown.any()
    assert (example.labels[unknown] == IGNORED).all()
    with pytest.raises(InputError, match="no token"):
        examples_of(reading, ["日本"])


def test_labels_are_distributed_as_by_transformers() -> None:
    reading = reading_of()
    ours = counted(MaskedLM(rate=0.15), reading)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=reading.tokenizer.backend,
        mask_token="[MASK]",
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )
    collator = DataCollatorForLanguageModeling(fast, mlm_probability=0.15, seed=3)
    theirs = dict.fromkeys(ours, 0)
    special = torch.tensor(fast.all_special_ids)
    for example in examples_of(reading):
        ids = torch.from_numpy(example.sequences[0].astype(np.int64))
        for _ in range(12):
            batch = collator([{"input_ids": ids}])
            shown, chosen = batch["input_ids"][0], batch["labels"][0] != IGNORED
            theirs["mask"] += int((chosen & (shown == fast.mask_token_id)).sum())
            theirs["kept"] += int((chosen & (shown == ids)).sum())
            random = chosen & (shown != fast.mask_token_id) & (shown != ids)
            theirs["random"] += int(random.sum())
            theirs["left"] += int((~chosen & ~torch.isin(ids, special)).sum())
    assert chi2_contingency([list(ours.values()), list(theirs.values())]).pvalue > CERTAIN


@given(length=st.integers(4, 40), words=st.integers(1, 60), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_a_long_text_is_cut_and_nothing_of_it_is_lost(length: int, words: int, seed: int) -> None:
    reading = reading_of(max_length=length)
    text = " ".join(["internationalization", "foxes"][i * seed % 2] for i in range(words))
    found = examples_of(reading, [text])
    assert all(example.tokens <= length for example in found)
    tokenizer = reading.tokenizer
    inside = [int(i) for e in found for i in e.sequences[0] if i not in tokenizer.special_ids]
    assert inside == tokenizer.encode(text, special=False, add_special_tokens=False)


def test_the_loss_is_that_of_transformers(tmp_path: Path) -> None:
    torch.manual_seed(0)
    reading, objective = reading_of(), MaskedLM()
    size = reading.tokenizer.vocab_size
    values = {**BERT, "vocab_size": size, "max_position_embeddings": 128}
    theirs = BertForMaskedLM(BertConfig(**values, hidden_dropout_prob=0.0)).eval()
    theirs.save_pretrained(tmp_path)
    ours = load_module(tmp_path)
    noised = [
        objective.noised(example, np.random.default_rng(n), reading)
        for n, example in enumerate(examples_of(reading)[:5])
    ]
    batch = objective.collate(noised, reading)
    loss = objective.loss(ours, batch, ForwardContext())
    total = 0.0
    for example in noised:
        assert example.labels is not None
        ids = torch.from_numpy(example.sequences[0].astype(np.int64))[None]
        labels = torch.from_numpy(example.labels.astype(np.int64))[None]
        summed = theirs(input_ids=ids, labels=labels).loss * int((labels != IGNORED).sum())
        summed.backward()
        total += summed.item()
    loss.total.backward()  # type: ignore[no-untyped-call]
    assert loss.total.item() == pytest.approx(total, rel=1e-5)
    table = theirs.bert.embeddings.word_embeddings.weight.grad
    torch.testing.assert_close(ours.embed.weight.grad, table, rtol=1e-3, atol=1e-5)


def test_a_tokenizer_without_a_mask_and_a_decoder_are_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    recipe = recipe_of(tmp_path)
    train_tokenizer(TEXTS, VocabularyConfig(vocab_size=300)).save(tmp_path / "plain")
    with pytest.raises(InputError, match="no mask token", check=about("tokenizer")):
        train(read_recipe(recipe, [f"tokenizer={tmp_path / 'plain'}"]))
    decoder = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SIZES}
    with pytest.raises(
        InputError, match="reads a text from left to right only", check=about("base")
    ):
        train(read_recipe(recipe, [f"model={json.dumps(decoder)}"]))


def test_a_base_with_another_head_gets_that_of_its_family(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    recipe = recipe_of(tmp_path)
    body = {**BERT, "architectures": ["BertModel"], "vocab_size": 120}
    torch.manual_seed(0)
    write_folder(Transformer(config_from_json(body)), tmp_path / "base", original=body)
    tokenizer_of("wordpiece").save(tmp_path / "base")
    given = [f"base={tmp_path / 'base'}", "model=null", "tokenizer=null", "steps=2"]
    loaded = load(str(train(read_recipe(recipe, given)).folder))
    assert loaded.kind == "fill-mask"
    assert loaded.module.config.transform_norm


@pytest.mark.parametrize("rate", [0, 1.5, "much"])
def test_a_rate_that_is_no_share_is_refused(rate: object) -> None:
    with pytest.raises(InputError, match="rate is", check=about("rate")):
        objective_named("masked", {"rate": rate})


def recipe_of(folder: Path) -> Path:
    tokenizer_of("wordpiece").save(folder / "tokenizer")
    data = folder / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    values = {
        "objective": {"name": "masked", "whole_word": True},
        "validation": 0,
        "model": BERT,
        "tokenizer": str(folder / "tokenizer"),
        "data": str(data),
        "output": str(folder / "made"),
        "run": str(folder / "run"),
        "max_length": 64,
        "batch": 8,
        "steps": 40,
        "lr": 0.01,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_fresh_encoder_learns_and_fills_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    result = train(read_recipe(recipe_of(tmp_path)))
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])
    loaded = load(str(result.folder))
    assert loaded.kind == "fill-mask"
    assert loaded.module.config.head == "lm"
