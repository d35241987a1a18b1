"""Intervals and tests over clusters, and over more samples than `statistics` takes."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from lmstack.evals.clustered import (
    _flipped,
    _masks,
    _percentiles,
    are_clustered,
    cluster_numbers,
    estimate,
    swap_test,
)
from lmstack.evals.statistics import bootstrap, mean_of, ratio_of, sign_flip, wilson


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


def test_three_thousand_differences_are_flipped_at_once_and_more_in_parts() -> None:
    rng = np.random.default_rng(7)
    differences = rng.normal(0.01, 1, (3001, 1))
    for count, expected in ((3000, sign_flip), (3001, _flipped)):
        base = np.zeros((count, 1))
        found = swap_test(base, differences[:count], [""] * count)
        assert found == expected(differences[:count, 0])


def test_a_share_of_ones_and_noughts_alone_has_wilsons_interval() -> None:
    values = np.array([1.0, 0, 1, 1, 0, 1])
    plain, shared = bootstrap(values), wilson(4, 6)
    alone = [""] * 6
    assert estimate(values, alone, is_share=True) == shared
    assert estimate(values, alone) == plain
    assert estimate(values, alone, ratio_of_first, is_share=True) == plain
    assert estimate(values / 2, alone, is_share=True) == bootstrap(values / 2)
    clustered = estimate(values, ["a", "a", "", "", "", ""], is_share=True)
    sums = np.array([[1.0, 2], [1, 1], [1, 1], [0, 1], [1, 1]])
    assert clustered == bootstrap(sums, ratio_of)


def ratio_of_first(rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = rows[..., 0].mean(-1)
    return found


def test_the_table_that_is_resampled_at_once_has_three_thousand_cells() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(size=3001)
    assert estimate(values[:3000], [""] * 3000) == bootstrap(values[:3000])
    normal = estimate(values, [""] * 3001)
    half = NormalDist().inv_cdf(0.975) * values.std(ddof=1) / np.sqrt(3001)
    assert (normal.low, normal.high) == pytest.approx((normal.value - half, normal.value + half))
    paired = [f"c{n // 2}" for n in range(3000)]
    parts = np.stack([values[:3000].reshape(-1, 2).sum(1), np.full(1500, 2.0)], axis=1)
    assert estimate(values[:3000], paired) == bootstrap(parts, ratio_of)


def test_resampled_clusters_give_the_percentiles_of_numpy() -> None:
    rng = np.random.default_rng(9)
    rows = rng.random((12, 2)) + 0.5
    numbers = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5])
    found = _percentiles(rows, numbers, ratio_of)
    draw = np.random.default_rng(0)
    drawn = []
    for _ in range(400):
        chosen = draw.integers(0, 6, 6)
        drawn.append(float(ratio_of(rows.reshape(6, 2, 2)[chosen].reshape(-1, 2))))
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high))
    single = _percentiles(rows, np.zeros(12, np.int64), ratio_of)
    assert (single.value, np.isnan(single.low)) == (pytest.approx(found.value), True)
    assert not np.isnan(_percentiles(rows, numbers // 3, ratio_of).low)
    assert np.isnan(_percentiles(rows * np.inf, numbers, mean_of).low)


def test_another_figures_swaps_are_those_of_whole_clusters() -> None:
    """p is one more than the draws that are as far, over one more than all 2,000."""
    base, other = np.zeros((4, 1)), np.ones((4, 1))
    found = swap_test(base, other, ["a", "a", "b", "b"], ratio_of_first)
    swapped = np.random.default_rng(0).random((2000, 2)) < 0.5
    as_far = int((swapped[:, 0] == swapped[:, 1]).sum())
    assert found == (as_far + 1) / 2001
    assert swap_test(base, base, [""] * 4, ratio_of_first) == 1.0
    assert swap_test(other, base, ["a", "a", "b", "b"], ratio_of_first) == found


def test_draws_come_in_parts_that_are_the_same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(_masks(3, 3)))
    monkeypatch.setattr("lmstack.evals.clustered._AT_ONCE", 900)
    parts = list(_masks(3, 1))
    assert [len(part) for part in parts] == [900, 900, 200]
    assert (np.concatenate(parts) == whole).all()
    assert len(list(_masks(3, 10_000))) == 2000
    assert len(next(iter(_masks(3, 0)))) == 900
