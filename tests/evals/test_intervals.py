"""Intervals and tests over clusters, and over more samples than `statistics` takes."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from lmstack.evals.clustered import are_clustered, cluster_numbers
from lmstack.evals.intervals import estimate, swap_test
from lmstack.evals.statistics import bootstrap, mean_of, ratio_of, sign_flip


def test_a_name_that_stands_once_makes_no_cluster() -> None:
    assert not are_clustered(["a", "b", "", ""])
    assert are_clustered(["a", "b", "a"])
    assert cluster_numbers(["a", "", "a", ""], 4).tolist() == [0, 1, 0, 2]


def test_without_clusters_it_is_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert estimate(values, [""] * 50) == bootstrap(values)


def test_the_cluster_robust_error_covers_as_often_as_it_says() -> None:
    """400 data sets of 2,000 samples in 1,600 clusters, pairs of which are copies."""
    rng, inside = np.random.default_rng(0), 0
    clusters = [f"c{n}" for n in range(1600)] + [f"c{n}" for n in range(400)]
    for _ in range(400):
        first = rng.normal(0.3, 1, 1600)
        found = estimate(np.concatenate([first, first[:400]]), clusters)
        inside += found.low <= 0.3 <= found.high
    assert 0.92 <= inside / 400 <= 0.98


def test_many_samples_have_the_interval_of_few_but_narrower() -> None:
    rng = np.random.default_rng(1)
    many = estimate(rng.normal(size=20_000), [""] * 20_000)
    assert many.high - many.low == pytest.approx(2 * 1.96 / np.sqrt(20_000), rel=0.05)


def test_many_samples_have_the_normal_interval_around_their_mean() -> None:
    values = np.arange(4001) % 7.0
    found = estimate(values, [str(n) for n in range(4001)])
    half = NormalDist().inv_cdf(0.975) * values.std(ddof=1) / np.sqrt(4001)
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_a_figure_that_is_no_mean_is_resampled_by_cluster() -> None:
    rng = np.random.default_rng(2)
    once = rng.random((30, 2)) + 0.1
    rows = np.repeat(once, 10, axis=0)
    clusters = [f"c{n // 10}" for n in range(300)]
    grouped = estimate(rows, clusters, ratio_of)
    alone = bootstrap(once, ratio_of)
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.25)


def test_the_swap_of_means_is_the_sign_flip() -> None:
    rng = np.random.default_rng(3)
    base, other = rng.normal(size=(2, 40, 1))
    assert swap_test(base, other, [""] * 40) == sign_flip((other - base)[:, 0])


def test_copies_of_a_sample_prove_no_more_than_one_of_them() -> None:
    base, other = np.zeros((60, 1)), np.ones((60, 1))
    assert swap_test(base, other, ["a"] * 30 + ["b"] * 30) == 0.5
    assert swap_test(base, other, [""] * 60) < 0.001


def test_the_swap_of_another_figure_agrees_with_that_of_the_mean() -> None:
    rng = np.random.default_rng(4)
    base = rng.normal(0.0, 1, (60, 1))
    other = base + rng.normal(0.25, 1, (60, 1))

    def doubled(rows: np.ndarray) -> np.ndarray:
        return 2 * mean_of(rows)

    exact = swap_test(base, other, [""] * 60)
    assert swap_test(base, other, [""] * 60, doubled) == pytest.approx(exact, abs=0.03)


def test_many_differences_are_flipped_in_parts_with_the_same_p() -> None:
    rng = np.random.default_rng(5)
    differences = rng.normal(0.03, 1, 4000)[:, None]
    found = swap_test(np.zeros((4000, 1)), differences, [""] * 4000)
    z = abs(differences.mean()) / differences.std() * np.sqrt(4000)
    assert found == pytest.approx(2 * (1 - NormalDist().cdf(z)), abs=0.03)


def test_the_swap_test_is_false_no_oftener_than_it_says() -> None:
    rng, false = np.random.default_rng(6), 0
    clusters = [f"c{n // 3}" for n in range(45)]
    for _ in range(200):
        shift = np.repeat(rng.normal(size=(15, 1)), 3, axis=0)
        base = rng.normal(size=(45, 1))
        false += swap_test(base, base + shift + rng.normal(size=(45, 1)), clusters) <= 0.05
    assert false / 200 <= 0.09
