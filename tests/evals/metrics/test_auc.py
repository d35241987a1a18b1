"""The area under the ROC curve counts pairs, and its interval and test hold."""

from __future__ import annotations

import importlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lmstack.evals.metrics.calibration import auc, auc_difference, auc_of

scores = st.lists(st.integers(-3, 3), min_size=2, max_size=12)


@given(scores, scores)
def test_area_under_the_curve_counts_pairs(above: list[int], below: list[int]) -> None:
    pairs = [(a > b) + (a == b) / 2 for a in above for b in below]
    area = auc(above, below)
    assert area.value == pytest.approx(sum(pairs) / len(pairs))
    assert 0 <= area.low <= area.value <= area.high <= 1
    rows = np.array([*((a, 1) for a in above), *((b, 0) for b in below)], float)
    assert auc_of(rows) == pytest.approx(area.value)
    assert auc_of(np.stack([rows, rows * [-1, 1]])) == pytest.approx([area.value, 1 - area.value])


def test_there_is_no_area_without_both() -> None:
    assert np.isnan(auc_of(np.array([[0.5, 1.0], [0.7, 1.0]])))


def test_interval_of_an_area_is_that_of_resampling() -> None:
    chance = random.Random(3)
    above = [chance.gauss(1, 1) for _ in range(60)]
    below = [chance.gauss(0, 1) for _ in range(40)]
    found = auc(above, below)
    resampled = sorted(
        auc(chance.choices(above, k=60), chance.choices(below, k=40)).value for _ in range(2000)
    )
    assert (found.low, found.high) == pytest.approx((resampled[50], resampled[1949]), abs=0.02)


def test_areas_of_the_same_items_are_compared_by_what_changed() -> None:
    chance = np.random.default_rng(5)
    above, below = chance.normal(1, 1, 80), chance.normal(0, 1, 60)
    better = (above + 0.8, below + chance.normal(0, 0.1, 60))
    found = auc_difference((above, below), better)
    assert found.value == pytest.approx(auc(*better).value - auc(above, below).value)
    assert found.is_apart
    assert found.p is not None
    assert found.p < 1e-3
    back = auc_difference(better, (above, below))
    assert (back.value, back.p) == (pytest.approx(-found.value), pytest.approx(found.p))
    same = auc_difference((above, below), (above * 3, below * 3))
    assert (same.value, same.p) == (0.0, 1.0)


def test_the_p_value_of_equal_areas_is_uniform() -> None:
    chance = np.random.default_rng(7)
    found = []
    for _ in range(300):
        shared = chance.normal(0, 1, 90) + np.repeat([1.0, 0.0], 45)
        one, other = (shared + chance.normal(0, 0.7, 90) for _ in range(2))
        found.append(auc_difference((one[:45], one[45:]), (other[:45], other[45:])).p)
    assert stats.kstest(found, "uniform").pvalue > 0.001


def test_areas_that_changed_all_alike_have_no_doubt() -> None:
    apart, mixed = ([3.0, 4.0], [1.0, 2.0]), ([1.0, 1.0], [1.0, 1.0])
    found = auc_difference(mixed, apart)
    assert (found.value, found.low, found.high, found.p) == (0.5, 0.5, 0.5, 0.0)
    assert auc_difference(apart, apart).p == 1.0


def test_an_area_has_delongs_variance() -> None:
    above, below = [3.0, 1.0, 2.0], [0.0, 2.0, 1.5, 1.0]
    wins = np.array([[(a > b) + 0.5 * (a == b) for b in below] for a in above])
    variance = wins.mean(1).var(ddof=1) / 3 + wins.mean(0).var(ddof=1) / 4
    found = auc(above, below)
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx(
        (wins.mean() - half, min(wins.mean() + half, 1))
    )
    alone = auc([3.0], below)
    assert (alone.value, alone.low) == (1.0, 1.0)
    other = ([3.0, 2.0, 0.5], [0.0, 2.0, 0.0, 1.0])
    changed = np.array([[(a > b) + 0.5 * (a == b) for b in other[1]] for a in other[0]])
    moved = changed - wins
    variance = moved.mean(1).var(ddof=1) / 3 + moved.mean(0).var(ddof=1) / 4
    found = auc_difference((above, below), other)
    z = abs(moved.mean()) / np.sqrt(variance)
    assert found.p == pytest.approx(2 * stats.norm.sf(z))
    half = stats.norm.ppf(0.975) * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((moved.mean() - half, moved.mean() + half))


def test_areas_of_many_tables_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    tables = np.stack([rng.integers(0, 4, (2, 5, 9)), rng.integers(0, 2, (2, 5, 9))], axis=-1)
    whole = auc_of(tables.astype(float))
    module = importlib.import_module("lmstack.evals.metrics.calibration")  # a function has its name
    monkeypatch.setattr(module, "_AT_ONCE", 8)
    assert np.array_equal(auc_of(tables.astype(float)), whole, equal_nan=True)
    assert whole.shape == (2, 5)
    one = tables[0, 0]
    assert whole[0, 0] == auc(one[one[:, 1] > 0, 0], one[one[:, 1] == 0, 0]).value
