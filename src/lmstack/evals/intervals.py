"""The interval of a figure over samples, and the p of a paired difference, where samples share
clusters or are many.

    estimate     a figure with its interval: Wilson's of a share, else resampled by cluster
    swap_test    two-sided p by swapping the two sides of clusters at random (approximate
                 randomization, Noreen, 1989); of a mean this is the sign-flip test

Samples of a cluster are resampled, and swapped, together. Built on `statistics`, whose methods
hold as many units as fit in memory; above that, means have the interval of the normal distribution
with a cluster-robust standard error, and other figures plain percentiles.

Legend: N samples, K columns, G clusters, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmstack.evals.clustered import (
    ClusterSums,
    Ints,
    Statistic,
    are_clustered,
    cluster_members,
    cluster_numbers,
    cluster_sums,
)
from lmstack.evals.statistics import (
    CONFIDENCE,
    Estimate,
    Floats,
    bootstrap,
    mean_of,
    ratio_of,
    sign_flip,
    wilson,
)

__all__ = ["estimate", "swap_test"]

# Cells of a table of units that `bootstrap` takes, each left out once and drawn 2,000 times.
_CELLS = 3_000
_RESAMPLES, _DRAWS = 400, 2_000
_AT_ONCE = 1 << 22  # numbers in memory
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def estimate(
    rows: npt.ArrayLike,
    clusters: Sequence[str],
    statistic: Statistic = mean_of,
    *,
    is_share: bool = False,
) -> Estimate:
    """``statistic`` of ``rows`` (N, K) or (N,) with its interval. ``clusters``: of each row."""
    table = np.asarray(rows, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    is_mean, is_alone = statistic is mean_of, not are_clustered(clusters)
    if is_share and is_mean and is_alone and _is_binary(table):
        return wilson(float(table[:, 0].sum()), len(table))
    if is_alone and table.size <= _CELLS:
        return bootstrap(table, statistic)
    if is_mean:
        sums = cluster_sums(table[:, 0], clusters)
        parts = np.stack([sums.sums, sums.sizes], axis=1)
        return bootstrap(parts, ratio_of) if parts.size <= _CELLS else _normal(sums)
    return _percentiles(table, cluster_numbers(clusters, len(table)), statistic)


def _is_binary(table: Floats) -> bool:
    return bool(np.isin(table[:, 0], (0.0, 1.0)).all())


def _normal(sums: ClusterSums) -> Estimate:
    half = _Z * sums.error
    return Estimate(sums.mean, sums.mean - half, sums.mean + half)


def _percentiles(table: Floats, numbers: Ints, statistic: Statistic, seed: int = 0) -> Estimate:
    value = float(statistic(table))
    groups = cluster_members(numbers)
    if len(groups) < 2 or not np.isfinite(value):
        return Estimate(value)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(_RESAMPLES):
        chosen = rng.integers(0, len(groups), len(groups))
        drawn.append(float(statistic(table[np.concatenate([groups[i] for i in chosen])])))
    low, high = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value, min(float(low), value), max(float(high), value))


def swap_test(
    base: Floats, other: Floats, clusters: Sequence[str], statistic: Statistic = mean_of
) -> float:
    """Two-sided p of no difference between ``statistic`` of ``base`` and of ``other``, (N, K)
    each, a sample a place."""
    numbers = cluster_numbers(clusters, len(base))
    if statistic is mean_of:
        sums = np.bincount(numbers, other[:, 0] - base[:, 0])
        sums = sums[sums != 0]
        return sign_flip(sums) if len(sums) <= _CELLS else _flipped(sums)
    size = abs(float(statistic(other)) - float(statistic(base)))
    found = 0
    for swapped in _masks(int(numbers.max()) + 1, base.size):
        mask = swapped[:, numbers, None]
        one, two = np.where(mask, other, base), np.where(mask, base, other)
        found += int((np.abs(statistic(two) - statistic(one)) >= size - 1e-12).sum())
    return (found + 1) / (_DRAWS + 1)


def _flipped(sums: Floats) -> float:
    """`sign_flip` by random signs, a part of the draws at a time."""
    size, found = abs(float(sums.sum())), 0
    slack = 1e-12 * float(np.abs(sums).sum())
    for signs in _masks(len(sums), len(sums)):
        found += int((np.abs((2.0 * signs - 1.0) @ sums) >= size - slack).sum())
    return (found + 1) / (_DRAWS + 1)


def _masks(count: int, cells: int, seed: int = 0) -> Iterator[npt.NDArray[np.bool_]]:
    """Truth values at random, (some, ``count``), `_DRAWS` rows in all."""
    rng = np.random.default_rng(seed)
    part = max(1, _AT_ONCE // max(cells, 1))
    for start in range(0, _DRAWS, part):
        yield rng.random((min(part, _DRAWS - start), count)) < 0.5
