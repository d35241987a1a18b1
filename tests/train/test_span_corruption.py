"""Span corruption: T5's own code, transcribed apart, as the reference."""

from __future__ import annotations

import json
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare
from tests.errors import about
from tests.train.test_translation import T5, recipe_of, vocabulary

from lmstack.core import InputError
from lmstack.registry import load
from lmstack.text import VocabularyConfig, train_tokenizer
from lmstack.train import read_recipe, train
from lmstack.train.data.examples import Example
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.span_corruption import SpanCorruption, noise_spans

CERTAIN = 1e-4


def reference_mask(
    length: int, density: float, mean: float, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """``random_spans_noise_mask`` of the t5 library, line by line in NumPy."""
    original, length = length, max(length, 2)
    noise = min(max(int(np.round(length * density)), 1), length - 1)
    spans = max(int(np.round(noise / mean)), 1)

    def segmentation(items: int, segments: int) -> npt.NDArray[np.int64]:
        first = np.arange(items - 1) < segments - 1
        rng.shuffle(first)
        ids = np.cumsum(np.pad(first, [[1, 0]]))
        return np.bincount(ids, minlength=segments)

    noise_lengths = segmentation(noise, spans)
    other_lengths = segmentation(length - noise, spans)
    interleaved = np.stack([other_lengths, noise_lengths], axis=1).reshape(spans * 2)
    starts = np.cumsum(interleaved)[:-1]
    indicator = np.zeros(length, np.int64)
    indicator[starts] = 1
    return (np.cumsum(indicator) % 2 == 1)[:original]


def reference_lengths(inputs: int, density: float, mean: float) -> tuple[int, int]:
    """``random_spans_helper`` of the t5 library: tokens of a text, and of its target."""

    def lengths(tokens: int) -> tuple[int, int]:
        noise = round(tokens * density)
        spans = round(noise / mean)
        return tokens - noise + spans + 1, noise + spans + 1

    tokens = inputs
    while lengths(tokens + 1)[0] <= inputs:
        tokens += 1
    return tokens, lengths(tokens)[1]


def reading_of(max_length: int = 64) -> Reading:
    return Reading(vocabulary(), None, max_length, decoder_start=0)


def noised(objective: SpanCorruption, tokens: int, seed: int, max_length: int = 64) -> Example:
    ids = np.arange(100, 100 + tokens, dtype=np.int32)
    return objective.noised(Example((ids,)), np.random.default_rng(seed), reading_of(max_length))


def spans_of(mask: npt.NDArray[np.bool_]) -> tuple[int, ...]:
    return tuple(len(list(run)) for is_noise, run in groupby(mask.tolist()) if is_noise)


@given(
    tokens=st.integers(2, 400),
    rate=st.floats(0.05, 0.5),
    mean=st.floats(1, 8),
    seed=st.integers(0, 1 << 30),
)
@settings(max_examples=100, deadline=None)
def test_spans_are_as_many_and_as_long_as_the_reference_has_them(
    tokens: int, rate: float, mean: float, seed: int
) -> None:
    objective = SpanCorruption(rate=rate, mean_span=mean)
    rng, (noise, spans) = np.random.default_rng(seed), objective.counts(tokens)
    assume(
        spans < tokens - noise or noise == 1
    )  # the reference fails where no token is left between spans
    mask = noise_spans(tokens, noise, spans, rng)
    theirs = reference_mask(tokens, rate, mean, rng)
    assert len(mask) == tokens
    assert mask.sum() == theirs.sum()
    assert len(spans_of(mask)) == len(spans_of(theirs))
    assert not mask[0]
    assert mask[-1]


@pytest.mark.parametrize(("tokens", "rate", "mean"), [(12, 0.4, 2.5), (30, 0.2, 2.0)])
def test_masks_are_distributed_as_by_the_reference(tokens: int, rate: float, mean: float) -> None:
    rng, objective = np.random.default_rng(5), SpanCorruption(rate=rate, mean_span=mean)
    counts = objective.counts(tokens)
    ours = Counter(spans_of(noise_spans(tokens, *counts, rng)) for _ in range(4000))
    theirs = Counter(spans_of(reference_mask(tokens, rate, mean, rng)) for _ in range(4000))
    kinds = sorted(k for k in ours | theirs if ours[k] + theirs[k] >= 20)
    table = [[c[kind] for kind in kinds] for c in (ours, theirs)]
    assert chi2_contingency(table).pvalue > CERTAIN
    where = [
        sum(make() for _ in range(4000))
        for make in (
            lambda: noise_spans(tokens, *counts, rng).astype(int),
            lambda: reference_mask(tokens, rate, mean, rng).astype(int),
        )
    ]
    inside = slice(1, -1)  # the first is never noise and the last always
    table = [[*w[inside]] for w in where]
    assert chi2_contingency(table).pvalue > CERTAIN


def test_every_way_to_cut_is_as_likely_as_another() -> None:
    rng = np.random.default_rng(2)
    found = Counter(
        noise_spans(10, 4, 2, rng).astype(int).tobytes() for _ in range(6000)
    )  # 3 ways to cut the noise in two, 5 for what stays
    assert len(found) == 15
    assert chisquare(list(found.values())).pvalue > CERTAIN


@pytest.mark.parametrize("max_length", [32, 64, 114, 512])
@pytest.mark.parametrize(("rate", "mean"), [(0.15, 3.0), (0.15, 8.0), (0.3, 3.0)])
def test_texts_are_as_long_as_the_reference_has_them(
    max_length: int, rate: float, mean: float
) -> None:
    tokens, target = reference_lengths(max_length, rate, mean)
    objective = SpanCorruption(rate=rate, mean_span=mean)
    assert objective.tokens_that_fit(max_length) == tokens
    source, ours = objective.lengths(tokens)
    assert source <= max_length
    assert ours == target + 1  # the sentinel in the end


@given(tokens=st.integers(2, 66), seed=st.integers(0, 1 << 30))
@settings(max_examples=100, deadline=None)
def test_source_and_target_together_are_the_text(tokens: int, seed: int) -> None:
    objective, tokenizer = SpanCorruption(), vocabulary()
    source, target = (list(map(int, s)) for s in noised(objective, tokens, seed).sequences)
    assert (len(source), len(target)) == objective.lengths(tokens)
    sentinels = [tokenizer.id_of(f"<extra_id_{n}>") for n in range(20)]
    assert source.pop() == target.pop() == tokenizer.eos_id
    in_source = [token for token in source if token in sentinels]
    in_target = [token for token in target if token in sentinels]
    assert in_source == sentinels[: len(in_source)]  # in order
    assert in_target == sentinels[: len(in_source) + 1]
    assert target[-1] == in_target[-1]
    spans: dict[int, list[int]] = {}
    for token in target:
        if token in sentinels:
            spans[token] = []
        else:
            spans[in_target[len(spans) - 1]].append(token)
    whole = [t for token in source for t in (spans[token] if token in sentinels else [token])]
    assert whole == list(range(100, 100 + tokens))
    assert all(spans[token] for token in in_source)


def test_documents_are_cut_to_what_fills_the_input() -> None:
    reading, objective = reading_of(32), SpanCorruption()
    text = "the big cat sees the old dog " * 40
    examples = list(objective.encode(Row({"text": text}, ""), reading))
    step = objective.tokens_that_fit(32)
    assert [example.tokens for example in examples[:-1]] == [step] * (len(examples) - 1)
    ids = [int(i) for example in examples for i in example.sequences[0]]
    whole = vocabulary().encode(text, special=False)
    assert ids == whole[: len(ids)]
    assert len(whole) - len(ids) <= 1  # a single token cannot be noised
    for n, example in enumerate(examples):
        sequences = objective.noised(example, np.random.default_rng(n), reading).sequences
        assert max(map(len, sequences)) <= 32


def test_too_few_sentinels_are_an_error_in_words() -> None:
    objective = SpanCorruption(mean_span=1.0, rate=0.5)
    row = Row({"text": "the big cat sees the old dog " * 60}, "")
    with pytest.raises(
        InputError, match=r"need .* sentinels, the tokenizer has 20", check=about("max_length")
    ):
        list(objective.encode(row, reading_of(256)))
    with pytest.raises(InputError, match="41 tokens need 21 sentinels, the tokenizer has 20"):
        list(objective.encode(row, reading_of(42)))
    pieces = list(objective.encode(row, reading_of(41)))
    assert {piece.tokens for piece in pieces[:-1]} == {39}
    plain = train_tokenizer(["the cat"] * 9, VocabularyConfig(vocab_size=270))
    with pytest.raises(InputError, match="no sentinels", check=about("tokenizer")):
        list(objective.encode(row, Reading(plain, None, 64, decoder_start=0)))
    with pytest.raises(
        InputError, match="too short for any noised text", check=about("max_length")
    ):
        list(SpanCorruption().encode(row, reading_of(3)))


def test_an_encoder_decoder_learns_to_fill_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)
    texts = [{"text": f"the big cat sees the old dog {n} times" * 2} for n in range(60)]
    recipe = recipe_of(tmp_path, T5, "span-corruption", texts)
    result = train(read_recipe(recipe, ["steps=40", "batch=8"]))
    lines = [json.loads(x) for x in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    assert load(str(result.folder)).kind == "seq2seq"


@pytest.mark.parametrize(
    ("objective", "tokens", "counts", "lengths"),
    [
        (SpanCorruption(), 2, (1, 1), (3, 4)),
        (SpanCorruption(), 100, (15, 5), (91, 22)),
        (SpanCorruption(rate=0.9, mean_span=1), 10, (9, 1), (3, 12)),
        (SpanCorruption(rate=0.001), 9, (1, 1), (10, 4)),
        (SpanCorruption(rate=0.5, mean_span=2.5), 10, (5, 2), (8, 9)),
    ],
)
def test_as_much_is_left_out_as_asked_for_and_something_stays(
    objective: SpanCorruption, tokens: int, counts: tuple[int, int], lengths: tuple[int, int]
) -> None:
    assert objective.counts(tokens) == counts
    assert objective.lengths(tokens) == lengths
    most = objective.tokens_that_fit(max(lengths))
    assert max(objective.lengths(most)) <= max(lengths) < max(objective.lengths(most + 1))


def test_the_shortest_length_that_any_noised_text_has_is_enough() -> None:
    assert SpanCorruption().tokens_that_fit(4) >= 2
    with pytest.raises(InputError, match="max_length is 3, too short", check=about("max_length")):
        SpanCorruption().tokens_that_fit(3)
