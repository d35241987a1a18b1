"""BART's noise: the code that BART was trained with, transcribed apart, as the reference."""

from __future__ import annotations

import json
import math
from collections import Counter
from functools import cache
from itertools import groupby, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, poisson
from tests.errors import about

from lmstack.core import InputError
from lmstack.registry import load
from lmstack.text import Tokenizer, VocabularyConfig, train_tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.data.rows import Row
from lmstack.train.objectives.denoising import Denoising, infilled, permuted, span_lengths
from lmstack.train.objectives.objective import Reading

CERTAIN = 1e-4
MASK = 9999
TEXT = (
    "The big cat sees the old dog. It ran away... Then nothing happened for a while. "
    "Nobody knows why it was unbelievable"
)


@cache
def vocabulary(adds: bool = False) -> Tokenizer:
    """Small, so that words have several tokens. ``adds``: <s> and </s> around texts, as BART's."""
    config = VocabularyConfig("bpe", 330, special_tokens=("<mask>", "<s>", "</s>"))
    roles = {"mask_token": "<mask>", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "<s>"}
    made = train_tokenizer([TEXT] * 5, config, roles=roles)
    if not adds:
        return made
    from tokenizers.processors import TemplateProcessing

    backend = made.backend.__class__.from_str(made.backend.to_str())
    ends = [(name, made.id_of(name)) for name in ("<s>", "</s>")]
    backend.post_processor = TemplateProcessing("<s> $A </s>", special_tokens=ends)
    return Tokenizer.from_json(backend.to_str(), roles)


def reading_of(adds: bool = False, max_length: int = 128) -> Reading:
    return Reading(vocabulary(adds), None, max_length, decoder_start=0)


def reference_infill(
    source: npt.NDArray[np.int64],
    is_word_start: npt.NDArray[np.bool_],
    share: float,
    mean: float,
    rng: np.random.Generator,
) -> npt.NDArray[np.int64]:
    """``add_whole_word_mask`` and ``add_insertion_noise`` of fairseq's denoising data set, step by
    step, for ``replace_length=1`` and no random tokens."""
    is_word_start = is_word_start.astype(np.int64)
    num_to_mask = math.ceil(is_word_start.sum() * share)
    lengths = rng.poisson(mean, num_to_mask)
    cum_length = np.cumsum(lengths)
    while cum_length[-1] < num_to_mask:
        lengths = np.concatenate([lengths, rng.poisson(mean, num_to_mask)])
        cum_length = np.cumsum(lengths)
    i = 0
    while cum_length[i] < num_to_mask:
        i += 1
    lengths[i] = num_to_mask - (0 if i == 0 else cum_length[i - 1])
    num_to_mask = i + 1
    lengths = lengths[:num_to_mask]
    lengths = lengths[lengths > 0]
    inserts = num_to_mask - len(lengths)
    num_to_mask -= inserts
    source = np.append(source, -1)  # the end, at which spans stop
    if num_to_mask:
        word_starts = np.flatnonzero(is_word_start)
        indices = rng.permutation(word_starts)[:num_to_mask]
        is_word_start = np.append(is_word_start, 255)
        to_keep = np.ones(len(source), np.bool_)
        source[indices] = MASK
        lengths = lengths - 1
        while len(indices):
            lengths = lengths - is_word_start[indices + 1]
            uncompleted = lengths >= 0
            indices = indices[uncompleted] + 1
            lengths = lengths[uncompleted]
            to_keep[indices] = False
        source = source[to_keep]
    source = source[:-1]
    places = rng.permutation(len(source) + inserts)[:inserts]
    result = np.full(len(source) + inserts, MASK)
    is_noise = np.zeros(len(result), np.bool_)
    is_noise[places] = True
    result[~is_noise] = source
    return result


@pytest.mark.parametrize(("share", "mean"), [(0.3, 3.0), (0.5, 1.0), (0.3, 0.6)])
def test_spans_are_hidden_as_by_the_reference(share: float, mean: float) -> None:
    rng = np.random.default_rng(4)
    begins = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0, 1], np.bool_)
    ids = np.arange(len(begins), dtype=np.int32)

    def ours() -> tuple[int, ...]:
        lengths = span_lengths(math.ceil(begins.sum() * share), mean, rng)
        found = infilled(ids, begins, lengths, MASK, 99, rng)
        assert found.dtype == ids.dtype
        return tuple(found.tolist())

    def theirs() -> tuple[int, ...]:
        return tuple(reference_infill(ids.astype(np.int64), begins, share, mean, rng).tolist())

    counts = [Counter(make() for _ in range(3000)) for make in (ours, theirs)]
    kinds = sorted(k for k in counts[0] | counts[1] if counts[0][k] + counts[1][k] >= 20)
    assert len(kinds) > 10
    rest = [sum(c.values()) - sum(c[k] for k in kinds) for c in counts]
    table = [[*(c[k] for k in kinds), r + 1] for c, r in zip(counts, rest, strict=True)]
    assert chi2_contingency(table).pvalue > CERTAIN


@pytest.mark.parametrize("mean", [1.0, 3.0, 5.0])
def test_lengths_are_poisson_and_add_up(mean: float) -> None:
    rng = np.random.default_rng(1)
    found = [span_lengths(400, mean, rng) for _ in range(60)]
    assert all(lengths.sum() == 400 for lengths in found)
    drawn = np.concatenate([lengths[:-1] for lengths in found])  # the last one is cut
    most = int(poisson.ppf(0.995, mean))
    seen = [int((drawn == k).sum()) for k in range(most)] + [int((drawn >= most).sum())]
    shares = [poisson.pmf(k, mean) for k in range(most)] + [poisson.sf(most - 1, mean)]
    assert chisquare(seen, np.array(shares) * len(drawn)).pvalue > CERTAIN


def test_sentences_change_places_and_each_order_is_as_likely() -> None:
    rng = np.random.default_rng(3)
    stops = np.array([0, 1, 0, 0, 1, 0], np.bool_)  # three sentences, the last without a stop
    found = Counter(tuple(permuted(stops, 1.0, rng).tolist()) for _ in range(3000))
    assert len(found) == 6
    assert set(found) >= {(0, 1, 2, 3, 4, 5), (5, 0, 1, 2, 3, 4), (2, 3, 4, 0, 1, 5)}
    assert chisquare(list(found.values())).pvalue > CERTAIN


@given(stops=st.lists(st.booleans(), min_size=1, max_size=30), share=st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_sentences_stay_whole(stops: list[bool], share: float) -> None:
    rng = np.random.default_rng(len(stops))
    is_stop = np.array(stops, np.bool_)
    order = permuted(is_stop, share, rng)
    assert sorted(order.tolist()) == list(range(len(stops)))
    # fairseq: full stops that follow no other, the last token counting as one.
    full = is_stop.copy()
    full[-1] = True
    ends = {n for n in range(len(full)) if full[n] and (n == 0 or not full[n - 1])}
    ends.add(len(full) - 1)
    for place, following in pairwise(order.tolist()):
        assert following == place + 1 or place in ends
    if not share:
        assert order.tolist() == list(range(len(stops)))


@pytest.mark.parametrize("adds", [False, True])
@given(seed=st.integers(0, 1 << 30))
@settings(max_examples=40, deadline=None)
def test_the_target_is_the_text_and_the_source_keeps_its_ends(adds: bool, seed: int) -> None:
    reading, objective, tokenizer = reading_of(adds), Denoising(), vocabulary(adds)
    [example] = objective.encode(Row({"text": TEXT}, ""), reading)
    source, target = objective.noised(example, np.random.default_rng(seed), reading).sequences
    end = [] if adds else [tokenizer.eos_id]
    assert target.tolist() == [*tokenizer.encode(TEXT, special=False), *end]
    if adds:
        assert source[0] == tokenizer.id_of("<s>")
        assert source[-1] == tokenizer.eos_id
    mask = tokenizer.id_of("<mask>")
    assert mask in source
    left = [int(token) for token in source if token != mask]
    assert not Counter(left) - Counter(target.tolist())


def test_about_the_share_of_words_is_hidden_in_runs_of_whole_words() -> None:
    # Spans so long that none is empty: masks of those may stand inside a word.
    reading, objective = reading_of(), Denoising(permute_sentences=0.0, mean_span=20.0)
    text = " ".join(f"unbelievable{n}" for n in range(20))
    [example] = objective.encode(Row({"text": text}, ""), reading)
    (ids,), words = example.sequences, example.labels
    assert words is not None
    mask, seen = vocabulary().id_of("<mask>"), 0
    count = len(set(words.tolist()))
    for seed in range(200):
        source, _ = objective.noised(example, np.random.default_rng(seed), reading).sequences
        place = 0
        for is_mask, run in groupby(source.tolist(), key=lambda token: token == mask):
            tokens = list(run)
            if is_mask:
                continue
            # What stays is a run of whole words.
            while ids[place : place + len(tokens)].tolist() != tokens:
                place += 1
            assert place == 0 or words[place] != words[place - 1]
            place += len(tokens)
            assert place == len(ids) or words[place] != words[place - 1]
            seen += len(set(words[place - len(tokens) : place].tolist()))
    hidden = 1 - seen / (200 * count)
    assert 0.2 < hidden <= 0.31  # spans that run into each other hide less than 30 %


@given(length=st.integers(8, 40), seed=st.integers(0, 999), mean=st.floats(0.5, 4))
@settings(max_examples=60, deadline=None)
def test_no_sequence_is_longer_than_the_model_reads(length: int, seed: int, mean: float) -> None:
    reading = reading_of(max_length=length)
    objective = Denoising(mean_span=mean, rate=0.9)
    for example in objective.encode(Row({"text": TEXT}, ""), reading):
        noised = objective.noised(example, np.random.default_rng(seed), reading)
        assert max(map(len, noised.sequences)) <= length


def test_a_tokenizer_without_a_mask_is_refused_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    train_tokenizer([TEXT], VocabularyConfig(vocab_size=300)).save(tmp_path / "tokenizer")
    with pytest.raises(InputError, match="no mask token", check=about("tokenizer")):
        train(read_recipe(recipe_of(tmp_path)))


def recipe_of(folder: Path) -> Path:
    sides = {f"{s}_{p}": v for s in ("encoder", "decoder") for p, v in SIDES.items()}
    data = folder / "data.jsonl"
    data.write_text("\n".join(json.dumps({"text": f"{n} cats. {TEXT}"}) for n in range(40)))
    values = {
        "objective": "denoising",
        "validation": 0,
        "model": {
            "model_type": "bart",
            "architectures": ["BartForConditionalGeneration"],
            "d_model": 32,
            "max_position_embeddings": 128,
            **sides,
        },
        "tokenizer": str(folder / "tokenizer"),
        "data": str(data),
        "output": str(folder / "made"),
        "run": str(folder / "run"),
        "max_length": 128,
        "batch": 8,
        "steps": 30,
        "lr": 0.01,
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(values))
    return path


SIDES = {"layers": 1, "attention_heads": 2, "ffn_dim": 64}


def test_a_fresh_bart_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    vocabulary(True).save(tmp_path / "tokenizer")
    result = train(read_recipe(recipe_of(tmp_path)))
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    loaded = load(str(result.folder))
    assert loaded.kind == "seq2seq"
    assert loaded.generation.decoder_start_id == vocabulary(True).pad_id
