"""Intervals and tests against scipy's, and what they must hold for any data."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.evals.statistics import (
    Estimate,
    bca_interval,
    bootstrap,
    bootstrap_places,
    holm,
    mcnemar,
    paired,
    ratio_of,
    sign_flip,
    wilson,
)

numbers = st.lists(st.floats(-100, 100, allow_subnormal=False), min_size=2, max_size=30)


@pytest.mark.parametrize("seed", range(4))
def test_the_bootstrap_is_scipys_bca(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(1.5, size=12 + 9 * seed)
    theirs = scipy.stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    ours = bootstrap(values, seed=seed)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    again = bootstrap_places(
        len(values), lambda places: float(values[list(places)].mean()), resamples=2000, seed=seed
    )
    assert again.value == pytest.approx(ours.value)
    assert (again.low, again.high) == pytest.approx((ours.low, ours.high), rel=0.1)


def test_a_ratio_is_scipys_bca_of_pairs() -> None:
    rng = np.random.default_rng(0)
    top, bottom = rng.gamma(2, size=25), rng.integers(1, 40, 25).astype(float)
    theirs = scipy.stats.bootstrap(
        (top, bottom),
        lambda x, y, axis=-1: x.sum(axis) / y.sum(axis),
        n_resamples=2000,
        paired=True,
        method="BCa",
        rng=np.random.default_rng(3),
    ).confidence_interval
    ours = bootstrap(np.stack([top, bottom], axis=1), ratio_of, seed=3)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


@given(numbers)
@settings(max_examples=30, deadline=None)
def test_an_interval_of_any_values_is_in_order_and_none_of_equal_ones(values: list[float]) -> None:
    found = bootstrap(values, resamples=200)
    assert found.low <= found.high
    assert min(values) - 1e-9 <= found.low
    assert found.high <= max(values) + 1e-9
    same = bootstrap([values[0]] * len(values))
    assert same.low == pytest.approx(same.high)


@pytest.mark.parametrize("values", [[], [1.0]])
def test_too_few_prompts_have_no_interval(values: list[float]) -> None:
    found = bootstrap(values)
    assert math.isnan(found.low)
    assert found.to_json()["low"] is None
    assert bootstrap(values).between(".2f") == ""


def test_an_interval_is_written_by_a_format_or_a_function() -> None:
    found = Estimate(0.5, 0.25, 0.75)
    assert found.between(".1%") == "(25.0% to 75.0%)"
    assert found.between(lambda bound: f"{4 * bound:.0f}") == "(1 to 3)"


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=12))
@settings(max_examples=40, deadline=None)
def test_signs_are_tried_as_scipy_tries_them(values: list[int]) -> None:
    theirs = scipy.stats.permutation_test(
        (np.array(values, float),), np.sum, permutation_type="samples", n_resamples=np.inf
    )
    assert sign_flip(values) == pytest.approx(min(theirs.pvalue, 1.0))


def test_signs_of_many_rows_are_drawn() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 60)
    theirs = scipy.stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=9999, rng=1
    )
    assert sign_flip(values) == pytest.approx(theirs.pvalue, abs=0.01)


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    total = gained + lost
    theirs = scipy.stats.binomtest(gained, total).pvalue if total else 1.0
    assert mcnemar(gained, lost) == pytest.approx(theirs)


@given(st.integers(0, 50), st.integers(1, 50))
def test_wilson_is_scipys(hits: int, more: int) -> None:
    total = hits + more
    theirs = scipy.stats.binomtest(hits, total).proportion_ci(method="wilson")
    ours = wilson(hits, total)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


def test_a_paired_difference_is_of_the_same_prompts() -> None:
    base = np.arange(20.0) * 10
    found = paired(base, base + 1 + np.arange(20) % 2)
    assert found.value == pytest.approx(1.5)
    assert found.is_apart
    assert found.p is not None
    assert found.p < 1e-3


def test_values_whose_sums_overflow_have_a_figure_and_what_bound_there_is() -> None:
    with np.errstate(all="ignore"):
        found = bootstrap([0.0, 0.0, 0.0, 1.7976931348623157e308])
    assert found.value == pytest.approx(1.7976931348623157e308 / 4)
    assert found.low == 0
    assert math.isnan(found.high)


def test_random_signs_never_give_a_p_of_nought() -> None:
    assert sign_flip(np.ones(40), draws=99) == 1 / 100


def test_counts_and_truths_are_numbers_too() -> None:
    """Whole numbers and truths have the figures of the same floats."""
    rows = np.array([[3, 4], [1, 2], [5, 9], [2, 2]])
    assert bootstrap(rows, ratio_of) == bootstrap(rows.astype(float), ratio_of)
    truths, other = np.array([True, False, True, True]), np.array([False, False, True, False])
    assert paired(truths, other) == paired(truths.astype(float), other.astype(float))
    assert sign_flip(truths) == sign_flip(truths.astype(float)) == 0.25
    assert sign_flip(["1", "1", "1"]) == 0.25
    assert bootstrap(["1", "2", "4"]) == bootstrap([1.0, 2.0, 4.0])


def test_a_seed_and_a_number_of_resamples_decide_an_interval() -> None:
    values = np.random.default_rng(1).gamma(1.0, size=15)
    assert bootstrap(values) == bootstrap(values, resamples=2000, seed=0)
    assert bootstrap(values) != bootstrap(values, seed=1)
    mean = [values[list(places)].mean() for places in ([0, 1], [1, 2])]
    assert mean[0] != mean[1]

    def of_places(**given: int) -> Estimate:
        return bootstrap_places(15, lambda places: float(values[list(places)].mean()), **given)

    assert of_places() == of_places(resamples=400, seed=0)
    assert of_places() != of_places(seed=1)
    many = np.random.default_rng(2).normal(0.3, 1, 30)
    assert sign_flip(many) == sign_flip(many, draws=9999, seed=0)
    assert sign_flip(many) != sign_flip(many, seed=1)
    differences = paired(np.zeros(30), many, seed=3)
    assert (differences.low, differences.p) == (
        bootstrap(many, seed=3).low,
        sign_flip(many, seed=3),
    )


def test_twelve_signs_are_all_tried_and_thirteen_are_drawn() -> None:
    assert sign_flip(np.ones(12), draws=9) == 2 / 4096
    assert sign_flip(np.ones(13), draws=9) == 1 / 10
    assert sign_flip([0.0, 0.0]) == 1.0
    assert sign_flip([1.0, 0.0, 1.0]) == 0.5
    assert sign_flip([0.1, 0.2, 0.3, -0.3, -0.2, -0.1]) == 1.0


@pytest.mark.parametrize("count", [0, 1])
def test_statistics_of_places_need_two(count: int) -> None:
    found = bootstrap_places(count, lambda places: 3.0)
    assert (math.isnan(found.value), math.isnan(found.low)) == (count == 0, True)
    assert math.isnan(bootstrap_places(5, lambda places: math.inf).low)
    assert bootstrap_places(2, lambda places: 3.0).low == 3.0


def test_a_share_of_nothing_has_no_limits_and_halves_count() -> None:
    assert math.isnan(wilson(0, 0).value)
    assert wilson(0.5, 1) == Estimate(0.5, *(wilson(0.5, 1).low, wilson(0.5, 1).high))
    half = wilson(2.5, 10)
    assert wilson(2, 10).low < half.low < wilson(3, 10).low
    assert (wilson(0, 5).low, wilson(5, 5).high) == (0.0, 1.0)


def test_an_interval_that_touches_nought_is_not_apart() -> None:
    ends = [(0.0, 1.0), (-1.0, 0.0), (0.1, 1.0), (-1.0, -0.1), (-1.0, 1.0)]
    assert [Estimate(0.5, *each).is_apart for each in ends] == [False, False, True, True, False]
    found = Estimate(math.inf, math.nan, 2.0, 0.5).to_json()
    assert found == {"value": None, "low": None, "high": 2.0, "p": 0.5}


def test_where_all_resamples_are_on_one_side_the_interval_holds_the_value() -> None:
    drawn = np.arange(100.0)
    found = bca_interval(-5.0, drawn, np.array([1.0, 2.0]))
    assert (found.low, found.high) == (-5.0, np.quantile(drawn, 0.975))
    found = bca_interval(500.0, drawn, np.array([1.0, 2.0]))
    assert (found.low, found.high) == (pytest.approx(2.475), 500.0)
    found = bca_interval(2.0, np.ones(3), np.ones(2))
    assert (found.low, found.high) == (1.0, 2.0)
    found = bca_interval(0.0, np.ones(3), np.ones(2))
    assert (found.low, found.high) == (0.0, 1.0)
    found = bca_interval(49.5, drawn, np.ones(4))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_holm_leaves_nothing_above_one_and_keeps_the_order() -> None:
    assert holm([0.5, 0.9, 0.01, 0.6]) == pytest.approx([1.0, 1.0, 0.04, 1.0])
    assert holm([0.02, 0.02]) == pytest.approx([0.04, 0.04])
    assert holm([0.3]) == [0.3]
    rows = np.array([[1.0, 0.0], [2.0, 0.0]])
    assert ratio_of(rows) == 0.0
