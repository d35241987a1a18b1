"""Slopes beside what other programs compute."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lmstack.evals.association import _score_p, partial_slope


def test_of_ones_it_is_the_mean_with_students_interval() -> None:
    values = np.random.default_rng(0).normal(0.3, 1, 40)
    found = partial_slope(values, np.ones(40))
    low, high = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), low, high))
    assert found.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_with_controls_it_is_the_coefficient_of_least_squares() -> None:
    rng = np.random.default_rng(1)
    z = np.column_stack([rng.normal(size=60), np.ones(60)])
    x = z[:, 0] + rng.normal(size=60)
    y = 2 * x - z[:, 0] + 1 + rng.normal(size=60)
    found = partial_slope(y, x, z)
    whole = np.linalg.lstsq(np.column_stack([x, z]), y, rcond=None)[0]
    assert found.value == pytest.approx(whole[0])
    assert found.low < 2 < found.high


def test_copies_of_a_row_in_one_cluster_count_once() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=30), rng.normal(size=30)
    once = partial_slope(y, x)
    many = partial_slope(
        np.repeat(y, 4), np.repeat(x, 4), (), np.repeat(np.arange(30), 4).astype(str).tolist()
    )
    assert (many.low, many.high, many.p) == pytest.approx((once.low, once.high, once.p))


def test_a_trait_that_does_not_vary_has_no_slope() -> None:
    y = np.arange(20.0)
    assert math.isnan(partial_slope(y, np.ones(20), np.ones((20, 1))).value)
    assert math.isnan(partial_slope(y, np.zeros(20)).value)


def test_what_controls_explain_wholly_leaves_nothing() -> None:
    rng = np.random.default_rng(3)
    z = rng.choice([-1.0, 1.0], 30)
    found = partial_slope(3 * z, rng.normal(size=30), z[:, None])
    assert (found.value, found.low, found.high, found.p) == (0, 0, 0, 1)


def test_controls_that_say_the_same_twice_change_nothing() -> None:
    """A label that never varies beside an intercept, and one that a single row has."""
    rng = np.random.default_rng(4)
    x, y, ones = rng.normal(size=40), rng.normal(size=40), np.ones(40)
    plain = partial_slope(y, x, ones)
    twice = partial_slope(y, x, np.column_stack([3 * ones, ones]))
    assert (twice.value, twice.low, twice.high, twice.p) == pytest.approx(
        (plain.value, plain.low, plain.high, plain.p)
    )
    alone = np.zeros(40)
    alone[7] = 1
    found = partial_slope(y, x, np.column_stack([alone, ones]))
    kept = alone == 0
    assert found.value == pytest.approx(partial_slope(y[kept], x[kept], ones[kept]).value)
    assert found.low < found.value < found.high


def test_one_row_or_cluster_has_a_slope_without_an_interval() -> None:
    found = partial_slope([2.0], [1.0])
    assert (found.value, found.p) == (2.0, 1.0)
    assert math.isnan(found.low)
    found = partial_slope([2.0, 4.0], [1.0, 2.0], (), ["a", "a"])
    assert (found.value, found.p) == (2.0, 1.0)
    assert math.isnan(found.high)


def test_two_clusters_are_enough_for_an_interval() -> None:
    found = partial_slope([1.0, 3.0], [1.0, 1.0])
    low, high = stats.t.interval(0.95, 1, 2.0, 1.0)
    assert (found.value, found.low, found.high) == pytest.approx((2.0, low, high))


def test_scores_of_very_many_clusters_are_normal() -> None:
    rng = np.random.default_rng(5)
    values = rng.normal(0.02, 1, 6000)
    found = partial_slope(values, np.ones(6000))
    z = abs(values.sum()) / math.sqrt(values @ values)
    assert found.p == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)
    assert _score_p(np.zeros(5001)) == 1.0
    few = np.zeros(5000)
    few[0] = 1.0
    assert _score_p(few) == 1.0  # by signs: both are as far away


def test_what_is_nought_but_for_rounding_is_nought() -> None:
    x = np.array([1.0, -1.0] * 10)
    y = np.array([1.0, 1.0] * 10) + 1e-13 * x
    found = partial_slope(y, x)
    assert found.value == 0.0
    assert partial_slope(1e-6 * x + 1, x).value == pytest.approx(1e-6)
