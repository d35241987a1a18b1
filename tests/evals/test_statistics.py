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
