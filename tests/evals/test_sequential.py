"""Betting keeps its level at every look, and finds what is there."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.clustered import cluster_sums
from lmstack.evals.sequential import (
    BettingMean,
    BettingProcess,
    capitals,
    confidence_sequence,
    quantile_limits,
)
from lmstack.evals.statistics import wilson

differences = st.lists(st.sampled_from([-1.0, -0.3, 0.0, 0.5, 1.0]), min_size=1, max_size=40)


@pytest.mark.parametrize(("lost", "gained"), [(0.05, 0.0), (0.15, 0.10), (0.5, 0.45)])
def test_looking_after_every_sample_keeps_the_level(lost: float, gained: float) -> None:
    draws = np.random.default_rng(0).random((2000, 250))
    values = (draws < gained) * 1.0 - (draws > 1 - lost)
    alarms = int((capitals(values, gained - lost).max(1) >= 20).sum())
    assert wilson(alarms, 2000).low <= 0.05


def test_a_test_meant_for_one_look_does_not() -> None:
    """So that the trap is one."""
    values = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], (2000, 400))
    steps = np.arange(1, 401)
    errors = values.std() / np.sqrt(steps)
    z = (values.cumsum(1) / steps / errors)[:, 20:]
    assert wilson(int((z.max(1) > 1.645).sum()), 2000).low > 0.2


@given(differences, st.sampled_from([-0.5, -0.05, 0.0, 0.2]))
@settings(deadline=None, max_examples=40)
def test_a_process_is_the_test_of_all_samples(values: list[float], bound: float) -> None:
    process = BettingProcess(bound)
    process.add(values)
    test = BettingMean(cluster_sums(np.array(values)), -1.0, 1.0)
    assert min(1.0, 1 / process.capital) == pytest.approx(test.p_above(bound))
    path = capitals(values, bound)
    assert process.capital == pytest.approx(path[-1])
    assert process.p == pytest.approx(min(1.0, 1 / path.max()))


@given(differences)
@settings(deadline=None, max_examples=40)
def test_the_order_of_samples_does_not_matter(values: list[float]) -> None:
    there, back = (BettingMean(cluster_sums(np.array(v)), -1, 1) for v in (values, values[::-1]))
    assert there.p_above(-0.1) == pytest.approx(back.p_above(-0.1))


@given(differences)
@settings(deadline=None, max_examples=30)
def test_p_rises_with_the_bound_and_mirrors(values: list[float]) -> None:
    test = BettingMean(cluster_sums(np.array(values)), -1, 1)
    mirrored = BettingMean(cluster_sums(-np.array(values)), -1, 1)
    ps = [test.p_above(bound) for bound in (-0.8, -0.2, 0.0, 0.4)]
    assert all(a <= b + 1e-12 for a, b in itertools.pairwise(ps))
    assert mirrored.p_below(0.2) == pytest.approx(test.p_above(-0.2))


def test_limits_cover_the_mean_at_all_looks_together() -> None:
    rng = np.random.default_rng(1)
    missed = 0
    for _ in range(80):
        values = rng.choice([-1.0, 0.0, 1.0], 120, p=[0.1, 0.75, 0.15])
        limits = confidence_sequence(values, [10, 30, 70, 120])
        missed += bool(((limits[:, 0] > 0.05) | (limits[:, 1] < 0.05)).any())
        assert (np.diff(limits[:, 0]) >= 0).all()
        assert (np.diff(limits[:, 1]) <= 0).all()
    assert wilson(missed, 80).low <= 0.05


def test_a_worse_canary_is_found_long_before_the_end() -> None:
    draws = np.random.default_rng(2).random((100, 1200))
    values = (draws < 0.05) * 1.0 - (draws > 0.80)  # 15 points worse
    worse = capitals(-values, 0.02)
    found = (worse >= 20).argmax(1)
    assert ((worse >= 20).any(1)).mean() > 0.99
    assert np.median(found) < 500


def test_a_cluster_counts_no_more_than_its_largest() -> None:
    sums = cluster_sums(np.ones(6), ["a", "a", "a", "b", "b", "b"])
    once = BettingMean(sums, -1.0, 1.0, largest=3.0)
    assert once.p_above(0.0) > BettingMean(cluster_sums(np.ones(6)), -1.0, 1.0).p_above(0.0)
    with pytest.raises(InputError, match="a cluster has 3 samples", check=about("largest")):
        BettingMean(sums, -1.0, 1.0, largest=2.0)


def test_values_and_looks_out_of_range_are_refused() -> None:
    with pytest.raises(InputError, match="not between -1 and 1", check=about("values")):
        BettingProcess(0.0).add([0.5, 1.5])
    with pytest.raises(InputError, match="not between -1 and 1", check=about("values")):
        BettingProcess(0.0).add([float("nan")])
    for bound in (1.0, -1.0):
        with pytest.raises(InputError, match="bound", check=about("bound")):
            BettingProcess(bound)
    with pytest.raises(InputError, match="looks at", check=about("looks")):
        confidence_sequence([0.0], [2])
    with pytest.raises(InputError, match="some values", check=about("values")):
        confidence_sequence([3.0], [1])


@pytest.mark.parametrize("share", [0.5, 0.95])
def test_the_limits_of_a_quantile_hold_at_every_look(share: float) -> None:
    true, wrong = -np.log(1 - share), 0
    for seed in range(40):
        values = np.random.default_rng(seed).exponential(size=800)
        looks = [quantile_limits(values[:size], share, 0.1) for size in range(20, 801, 130)]
        wrong += any(not low <= true <= high for low, high in looks)
    assert wrong <= 10  # 4 of 40 are allowed; more than 10 come once in 400 such tests


def test_the_limits_of_a_quantile_close_in() -> None:
    values = np.random.default_rng(0).exponential(size=20_000)
    low, high = quantile_limits(values, 0.5)
    assert low < np.log(2) < high
    assert high - low < 0.1


def test_too_few_values_leave_a_quantile_open() -> None:
    assert quantile_limits([1.0, 2.0], 0.5) == (-np.inf, np.inf)
    assert quantile_limits([1.0, 2.0], 0.95)[1] == np.inf
    assert quantile_limits([], 0.5) == (-np.inf, np.inf)


@given(st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=60))
def test_equal_values_hold_the_quantile_of_what_was_seen(values: list[float]) -> None:
    low, high = quantile_limits(values, 0.5)
    assert low <= np.quantile(values, 0.5, method="inverted_cdf") <= high


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=30))
def test_equal_values_are_bet_upon_together(values: list[float]) -> None:
    once = BettingMean(cluster_sums(values), -1.0, 1.0)
    capital = capitals(values, 0.0)[-1]
    assert once.p_above(0.0) == pytest.approx(min(1.0, 1 / capital), rel=1e-9)


def test_each_side_of_a_confidence_sequence_has_half_of_alpha() -> None:
    values = np.random.default_rng(3).uniform(-0.5, 1, 80)
    test = BettingMean(cluster_sums(values), -1.0, 1.0)
    [(low, high)] = confidence_sequence(values, [80], alpha=0.1)
    assert (low, high) == (test.lower(0.05), test.upper(0.05))


def test_betting_by_hand() -> None:
    """The mean over all fractions of what betting each of them on every value leaves."""
    values = [0.5, -0.3, 1.0, 0.2]
    fractions = np.geomspace(0.005, 0.95, 24)
    for bound, least in ((0.0, -1.0), (0.1, -0.4)):
        growth = 1 + np.multiply.outer(fractions, (np.array(values) - bound) / (bound - least))
        expected = growth.cumprod(1).mean(0)
        assert capitals(values, bound, least) == pytest.approx(expected)
        process = BettingProcess(bound, least)
        assert [process.add([value]) for value in values] == pytest.approx(expected.tolist())
        assert (process.count, process.most_capital) == (4, pytest.approx(max(1.0, *expected)))
        assert process.p == 1 / process.most_capital
    assert capitals(values, 0.0) == pytest.approx(capitals(values, 0.0, -1.0))
    endless = capitals(np.ones(3000), 0.0)
    assert np.isfinite(endless).all()
    process = BettingProcess(-0.5)
    assert np.isfinite(process.add([1.0] * 3000))


def test_a_bound_at_the_least_value_shows_nothing() -> None:
    test = BettingMean(cluster_sums([1.0, 1.0]), -1.0, 1.0)
    assert (test.p_above(-1.0), test.p_above(-2.0)) == (1.0, 1.0)
    assert (test.p_below(1.0), test.p_below(2.0)) == (1.0, 1.0)
    assert test.p_above(-0.999) < 1


def test_limits_of_a_quantile_are_where_the_bet_reaches_half_of_alpha() -> None:
    fractions = np.geomspace(0.005, 0.95, 24)
    values = np.arange(1.0, 201.0)

    def p(count: int, share: float) -> float:
        """Against so many at most a bound that ``share`` is at most."""
        won = np.log1p(fractions * (1 - share) / share) * count
        lost = np.log1p(-fractions) * (200 - count)
        return float(min(1.0, 1 / np.exp(won + lost).mean()))

    for share, alpha in ((0.5, 0.05), (0.9, 0.2)):
        low, high = quantile_limits(values, share, alpha)
        few = max(n for n in range(201) if p(200 - n, 1 - share) <= alpha / 2)
        enough = min(n for n in range(201) if p(n, share) <= alpha / 2)
        assert (low, high) == (values[few], values[enough - 1])
    assert quantile_limits(values, 0.5) == quantile_limits(values[::-1], 0.5, 0.05)
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="share", check=about("share")):
            quantile_limits(values, share)


def test_looks_may_come_in_any_order_and_at_the_ends() -> None:
    values = np.random.default_rng(4).uniform(0, 1, 30)
    there = confidence_sequence(values, [1, 10, 30], least=0.0)
    back = confidence_sequence(values, [30, 1, 10], least=0.0)
    assert back.tolist() == [there[2].tolist(), there[0].tolist(), there[1].tolist()]
    assert confidence_sequence(values, [30]).tolist() == (
        confidence_sequence(values, [30], 0.05, least=-1.0, most=1.0).tolist()
    )
    for bad, looks, param in (
        ([np.nan], [1], "values"),
        ([-1.5], [1], "values"),
        ([0.5], [0], "looks"),
        ([0.5], [1, 2], "looks"),
    ):
        with pytest.raises(InputError, check=about(param)):
            confidence_sequence(bad, looks)
    confidence_sequence([1.0, -1.0], [1, 2])
    for value in (-1.001, 1.001):
        with pytest.raises(InputError, check=about("values")):
            BettingProcess(0.0).add([value])
    BettingProcess(0.0).add([-1.0, 1.0])
