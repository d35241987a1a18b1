"""The sampler against transformers' logits processors and numpy."""

from __future__ import annotations

from collections import Counter
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine.conftest import EOS, NUM_TOKENS, byte_vocabulary
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
    TypicalLogitsWarper,
)

from lmstack.core import EngineError, SamplingParams
from lmstack.engine import EngineRequest
from lmstack.engine.constraints.grammar import mask_words
from lmstack.engine.decoding import logits_processors as logits_module
from lmstack.engine.decoding import sampler as sampler_module
from lmstack.engine.decoding.sampler import (
    NothingLeftError,
    Sampled,
    Sampler,
    score_targets,
    uniform,
)
from lmstack.engine.sequence import Sequence

V = NUM_TOKENS


def sequence(prompt: tuple[int, ...] = (5,), output: tuple[int, ...] = (), **options: object):
    params = SamplingParams.from_mapping({"temperature": 1.0, "seed": 1} | options)
    made = Sequence(EngineRequest("r", prompt, print, params), byte_vocabulary(), 10_000)
    for token in output:
        made.append(token)
    return made


def logits(rows: int = 1, seed: int = 0, spread: float = 3.0) -> torch.Tensor:
    return torch.randn(rows, V, generator=torch.Generator().manual_seed(seed)) * spread


def sample(rows: torch.Tensor, sequences: list[Sequence]) -> list[Sampled]:
    return Sampler(V)(rows.clone(), sequences)


DRAWS = 1000


def frequencies(row: torch.Tensor, draws: int = DRAWS, **options: object) -> np.ndarray:
    """How often each token is drawn, over seeds, all in one batch."""
    sequences = [sequence(**(options | {"seed": s})) for s in range(draws)]
    picked = Counter(s.token for s in sample(row.expand(draws, V), sequences))
    return np.array([picked[i] / draws for i in range(V)])


def by_transformers(
    row: torch.Tensor, *, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0
):
    ids, scores = torch.tensor([[5]]), row.clone()
    scores = TemperatureLogitsWarper(temperature)(ids, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(ids, scores)
    if top_p < 1:
        scores = TopPLogitsWarper(top_p)(ids, scores)
    if min_p:
        scores = MinPLogitsWarper(min_p)(ids, scores)
    if typical_p < 1:
        scores = TypicalLogitsWarper(typical_p)(ids, scores)
    return scores.softmax(-1)[0].numpy()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.3},
        {"top_k": 5},
        {"top_p": 0.8},
        {"min_p": 0.1},
        {"typical_p": 0.5},
        {"typical_p": 0.9, "temperature": 1.3, "top_k": 60},
        {"temperature": 1.7, "top_k": 40, "top_p": 0.9, "min_p": 0.02},
    ],
)
def test_draws_follow_the_distribution_of_transformers(options: dict[str, float]) -> None:
    row = logits()
    expected = by_transformers(row, **options)
    seen = frequencies(row, **options)
    assert set(np.nonzero(seen)[0]) <= set(np.nonzero(expected)[0]), "drawn though filtered out"
    # Three standard errors of the most uncertain frequency, plus slack for V of them.
    assert np.abs(seen - expected).max() < 4 * np.sqrt(0.25 / DRAWS)


@pytest.mark.parametrize("seed", range(20))
def test_filters_keep_exactly_the_tokens_that_transformers_keeps(seed: int) -> None:
    rng = np.random.default_rng(seed)
    options = {
        "top_k": int(rng.integers(0, 30)),
        "top_p": float(rng.uniform(0.05, 1)),
        "min_p": float(rng.uniform(0, 0.3)),
    }
    row = logits(seed=seed)
    params = [SamplingParams(**options)]
    ours = row - row.max()
    if options["top_k"]:
        sampler_module._filter(ours, params, lambda p: True, sampler_module._top_k)
    sampler_module._filter(ours, params, lambda p: True, sampler_module._top_p)
    sampler_module._filter(ours, params, lambda p: True, sampler_module._min_p)
    kept = set(torch.nonzero(ours[0].isfinite()).flatten().tolist())
    assert kept == set(np.nonzero(by_transformers(row, **options))[0])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("mass", [0.05, 0.4, 0.95])
def test_typical_p_keeps_exactly_the_tokens_that_transformers_keeps(seed: int, mass: float) -> None:
    row = logits(seed=seed)
    removed = sampler_module._typical(row - row.max(), [SamplingParams(typical_p=mass)])
    kept = set(torch.nonzero(~removed[0]).flatten().tolist())
    assert kept == set(np.nonzero(by_transformers(row, typical_p=mass))[0])


@pytest.mark.parametrize("spreads", [(0.3,), (0.3, 0.4), (0.3, 30.0)], ids=str)
def test_a_nucleus_wider_than_the_candidates_is_still_exact(monkeypatch, spreads) -> None:
    """Also beside a row whose nucleus is narrow."""
    rows = torch.cat([logits(seed=i, spread=spread) for i, spread in enumerate(spreads)])
    narrow = rows - rows.amax(-1, keepdim=True)
    monkeypatch.setattr(sampler_module, "TOP_P_CANDIDATES", 8)
    params = [SamplingParams(top_p=0.9)] * len(rows)
    sampler_module._filter(narrow, params, lambda p: True, sampler_module._top_p)
    for row, found in zip(rows, narrow, strict=True):
        kept = set(torch.nonzero(found.isfinite()).flatten().tolist())
        assert kept == set(np.nonzero(by_transformers(row[None], top_p=0.9))[0])


def test_a_nucleus_that_reaches_top_p_exactly_takes_no_more() -> None:
    rows = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()
    rows -= rows.amax()
    for mass, kept in ((0.5, 1), (0.75, 2), (0.8, 4)):
        found = rows.clone()
        params = [SamplingParams(top_p=mass)]
        sampler_module._filter(found, params, lambda p: True, sampler_module._top_p)
        assert int(found.isfinite().sum()) == kept


def test_greedy_is_argmax_for_each_row() -> None:
    rows = logits(4)
    picked = [s.token for s in sample(rows, [sequence(temperature=0)] * 4)]
    assert picked == rows.argmax(-1).tolist()


def test_tiny_temperature_does_not_overflow() -> None:
    rows = logits(1) * 1000
    assert sample(rows, [sequence(temperature=1e-30)])[0].token == int(rows.argmax())


OPTIONS = st.fixed_dictionaries(
    {"seed": st.integers(0, 9), "temperature": st.sampled_from([0, 0.7, 1.0])},
    optional={
        "logprobs": st.integers(0, 5),
        "logit_bias": st.just({7: 100}),
        "repetition_penalty": st.just(1.5),
        "top_k": st.sampled_from([1, 3, 200]),
        "top_p": st.sampled_from([0.1, 0.5, 0.95]),
        "min_p": st.just(0.05),
        "typical_p": st.just(0.8),
    },
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(OPTIONS, st.sampled_from([0.1, 3.0, 30.0])), min_size=2, max_size=5))
def test_rows_do_not_influence_each_other(drawn: list[tuple[dict[str, object], float]]) -> None:
    """Whatever the others ask for, and however sure the model is of them."""
    rows = torch.cat([logits(seed=i, spread=spread) for i, (_, spread) in enumerate(drawn)])
    mixed = [sequence(**options) for options, _ in drawn]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sampler_module, "TOP_P_CANDIDATES", 8)
        together = sample(rows, mixed)
        alone = [sample(rows[i : i + 1], [each])[0] for i, each in enumerate(mixed)]
    assert together == alone


class Admitting:
    """A matcher after which only these tokens may come."""

    def __init__(self, ids: set[int]) -> None:
        bits = np.isin(np.arange(32 * mask_words(V)), sorted(ids))
        self._words = np.packbits(bits, bitorder="little").view(np.int32)

    def mask(self, num_tokens: int) -> np.ndarray:
        assert num_tokens == V
        return self._words


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(OPTIONS, st.sets(st.integers(0, V - 1))), min_size=1, max_size=4),
    st.integers(0, 1000),
)
def test_of_few_allowed_tokens_the_same_are_drawn_as_of_all(
    drawn: list[tuple[dict[str, object], set[int]]], seed: int
) -> None:
    sequences = [sequence(**(options | {"seed": seed})) for options, _ in drawn]
    for each, (_, ids) in zip(sequences, drawn, strict=True):
        if ids:
            each.matcher = Admitting(ids)  # type: ignore[assignment]
    rows = logits(len(drawn), seed)
    with mock.patch.object(sampler_module, "few_allowed", return_value=None):
        wanted = sample(rows, sequences)
    assert sample(rows, sequences) == wanted
    assert all(not ids or s.token in ids for s, (_, ids) in zip(wanted, drawn, strict=True))


def test_repetition_penalty_equals_transformers() -> None:
    row, tokens = logits(), [3, 9, 9, 200]
    ids = torch.tensor([tokens])
    expected = RepetitionPenaltyLogitsProcessor(1.7)(ids, row.clone())
    ours = row.clone()
    made = sequence(tuple(tokens[:2]), tuple(tokens[2:]), repetition_penalty=1.7)
    logits_module.adjust(ours, [made])
    torch.testing.assert_close(ours, expected)


def test_presence_and_frequency_follow_openais_formula_on_output_alone() -> None:
    row = logits()
    made = sequence((3, 3, 4), (9, 9, 200), presence_penalty=0.5, frequency_penalty=0.25)
    ours = row.clone()
    logits_module.adjust(ours, [made])
    expected = row.numpy().copy()[0]
    for token, count in {9: 2, 200: 1}.items():
        expected[token] -= 0.5 + 0.25 * count
    np.testing.assert_allclose(ours[0].numpy(), expected, rtol=1e-6)


def test_logit_bias_of_100_forces_and_of_minus_100_forbids() -> None:
    rows = logits()
    best = int(rows.argmax())
    assert sample(rows, [sequence(temperature=0, logit_bias={7: 100})])[0].token == 7
    assert sample(rows, [sequence(temperature=0, logit_bias={best: -100})])[0].token != best


def test_logprobs_are_of_the_raw_distribution() -> None:
    rows = logits()
    options = {"temperature": 0.2, "top_k": 2, "logit_bias": {7: 50}, "presence_penalty": 1}
    picked = sample(rows, [sequence((5,), (9,), logprobs=5, **options)])[0]
    raw = rows.log_softmax(-1)[0]
    assert picked.score is not None
    assert picked.score.logprob == pytest.approx(float(raw[picked.token]))
    best = raw.topk(5)
    assert [t for t, _ in picked.score.top] == best.indices.tolist()
    assert [p for _, p in picked.score.top] == pytest.approx(best.values.tolist())


def test_zero_logprobs_scores_the_chosen_token_alone() -> None:
    score = sample(logits(), [sequence(logprobs=0)])[0].score
    assert score is not None
    assert score.top == ()


def test_padding_rows_of_the_model_are_never_picked() -> None:
    rows = torch.zeros(1, V + 60)
    rows[0, V + 5] = 50.0
    assert Sampler(V)(rows, [sequence(temperature=0)])[0].token < V


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_logits_that_no_request_asked_for_are_an_error_of_the_model(value: str) -> None:
    rows = logits(2)
    rows[1] = float(value)
    with pytest.raises(EngineError, match=f"no usable logits for r: the highest is {value}"):
        sample(rows, [sequence(), sequence()])


def test_constraints_that_leave_nothing_are_an_error_of_the_request() -> None:
    made = sequence(min_tokens=1)
    rows = torch.full((1, V), -torch.inf)
    rows[0, EOS] = 1.0
    with pytest.raises(NothingLeftError, match="constraints of this request"):
        sample(rows, [made])


def test_a_seed_gives_other_draws_at_other_places() -> None:
    draws = [uniform(1, place) for place in range(2000)]
    assert len(set(draws)) == 2000
    assert abs(float(np.mean(draws)) - 0.5) < 0.03
    assert all(0 <= d < 1 for d in draws)


def test_seeds_may_be_negative_or_full_64_bits() -> None:
    for seed in (-1, -(2**63), 2**64 - 1):
        assert 0 <= uniform(sequence(seed=seed).seed, 0) < 1


def test_log_probabilities_over_a_large_vocabulary_are_those_of_float64() -> None:
    given = 4 * torch.randn(16, 49152, generator=torch.Generator().manual_seed(0))
    tokens = [7 * row for row in range(16)]
    exact = given.double().log_softmax(-1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]
    scores = score_targets(given, [[t] for t in tokens], [0] * 16)
    found = torch.tensor([s.logprob for [s] in scores], dtype=torch.float64)
    assert float((found - exact).abs().mean()) < 1e-6
