"""Clustered figures against the formula written out, scipy, and figures of independent samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError
from lmstack.evals.clustered import (
    are_clustered,
    cluster_members,
    cluster_numbers,
    cluster_sums,
    clustered_mean,
    pseudo_values,
)
from lmstack.evals.statistics import ratio_of

scored = st.lists(
    st.tuples(st.floats(-9, 9, allow_subnormal=False), st.sampled_from("abcd")),
    min_size=3,
    max_size=30,
)


@given(scored)
def test_the_error_is_millers_formula(samples: list[tuple[float, str]]) -> None:
    values = np.array([value for value, _ in samples])
    names = [name for _, name in samples]
    count = len(set(names))
    if count < 2:
        assert math.isnan(cluster_sums(values, names).error)
        return
    mean = values.mean()
    total = sum(  # sums over pairs of samples in one cluster, as in the paper
        (a - mean) * (b - mean) for a, one in samples for b, two in samples if one == two
    )
    theirs = math.sqrt(max(total, 0) * count / (count - 1)) / len(values)
    assert cluster_sums(values, names).error == pytest.approx(theirs, abs=1e-7)


@given(st.lists(st.floats(-9, 9), min_size=2, max_size=20))
def test_samples_that_stand_alone_have_the_usual_error(values: list[float]) -> None:
    theirs = float(scipy.stats.sem(values))
    assert cluster_sums(values, [""] * len(values)).error == pytest.approx(theirs, abs=1e-9)
    assert cluster_sums(values).error == pytest.approx(theirs, abs=1e-9)


def test_repeating_each_sample_in_its_cluster_changes_nothing() -> None:
    values = np.random.default_rng(0).normal(size=20)
    names = [str(i) for i in range(20)]
    thrice = cluster_sums(np.repeat(values, 3), list(np.repeat(names, 3))).error
    assert thrice == pytest.approx(cluster_sums(values, names).error)


@given(st.lists(st.integers(-9, 9), min_size=2, max_size=20).filter(lambda v: len(set(v)) > 1))
@settings(deadline=None, max_examples=40)
def test_the_interval_of_independent_samples_is_students(values: list[int]) -> None:
    theirs = scipy.stats.ttest_1samp(values, 0)
    ours = clustered_mean(values)
    interval = theirs.confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=1e-9)
    assert ours.p == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-12)


def test_one_cluster_has_no_interval() -> None:
    found = clustered_mean([0.0, 1.0], ["a", "a"])
    assert found.value == 0.5
    assert math.isnan(found.low)
    assert pseudo_values([0.0, 1.0], ["a", "a"]) == pytest.approx([0.5])


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (2.0, 0.0)])
def test_values_without_spread_are_certain(value: float, p: float) -> None:
    found = clustered_mean([value] * 3)
    assert (found.value, found.low, found.high, found.p) == (value, value, value, p)


def test_samples_without_a_name_stand_alone_among_clusters() -> None:
    assert list(cluster_numbers(["", "a", "", "a"], 4)) == [0, 1, 2, 1]
    assert list(cluster_numbers([], 3)) == [0, 1, 2]
    assert are_clustered(["", "a", "", "a"])
    assert not are_clustered(["", "", "a", "b"])


def test_pseudo_values_of_a_mean_are_the_values() -> None:
    values = np.random.default_rng(4).normal(size=12)
    assert pseudo_values(values) == pytest.approx(values)


def test_pseudo_values_give_a_ratio_the_error_of_its_linear_terms() -> None:
    rng = np.random.default_rng(5)
    rows = np.stack([rng.gamma(3, size=400), rng.gamma(5, size=400)], axis=1)
    ratio = rows[:, 0].sum() / rows[:, 1].sum()
    linear = (rows[:, 0] - ratio * rows[:, 1]) / rows[:, 1].mean()
    found = pseudo_values(rows, (), ratio_of)
    assert found.mean() == pytest.approx(ratio, rel=1e-3)
    assert scipy.stats.sem(found) == pytest.approx(scipy.stats.sem(linear), rel=0.01)


def test_pseudo_values_of_whole_numbers_are_those_of_a_jackknife() -> None:
    rows, names = [[1, 2], [2, 3], [0, 4], [3, 3]], ["a", "", "a", "b"]
    left_out = [5 / 6, 4 / 9, 3 / 9]  # the ratio without a, without the second, without b
    theirs = [3 * 6 / 12 - 2 * each for each in left_out]
    assert pseudo_values(rows, names, ratio_of) == pytest.approx(theirs)


def test_clusters_for_other_samples_are_refused() -> None:
    with pytest.raises(InputError, match="3 samples have 2 names", check=about("clusters")):
        clustered_mean([1.0, 2.0, 3.0], ["a", "b"])
    with pytest.raises(InputError, match="no list of numbers", check=about("values")):
        clustered_mean([])


def test_whole_numbers_and_truths_are_counted_by_cluster() -> None:
    sums = cluster_sums([True, False, True, True], ["a", "b", "a", ""])
    assert (sums.sums.tolist(), sums.sizes.tolist()) == ([2.0, 0.0, 1.0], [2.0, 1.0, 1.0])
    assert (sums.sums.dtype, sums.sizes.dtype) == (float, float)
    assert sums.mean == 0.75
    assert cluster_sums(["1", "2"]).mean == 1.5
    assert pseudo_values(["1", "2"]).tolist() == [1.0, 2.0]
    for values in ([[1.0, 2.0]], 3.0):
        with pytest.raises(InputError, match="no list of numbers", check=about("values")):
            cluster_sums(values)


def test_two_clusters_have_an_interval_and_the_members_of_each() -> None:
    found = clustered_mean([0.0, 1.0])
    theirs = scipy.stats.ttest_1samp([0.0, 1.0], 0)
    interval = theirs.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((*interval, theirs.pvalue))
    assert [part.tolist() for part in cluster_members(np.array([0, 1, 0, 2]))] == [[0, 2], [1], [3]]
    assert pseudo_values([1.0, 3.0], ["a", "b"]).tolist() == [1.0, 3.0]
    assert clustered_mean([-1.0, -1.0]).p == 0.0
    assert math.isnan(cluster_sums([2.0]).error)
