"""Figures of samples that come in clusters (several questions on a passage, several drafts of one)
or are many: their intervals, and the p of a paired difference.

    cluster_sums    the sum and the size of each cluster, and the standard error of their mean with
                    the factor C / (C - 1) (Miller, 2024, arXiv:2411.00640)
    clustered_mean  mean with Student's interval, C - 1 degrees of freedom
    pseudo_values   jackknife: one number a cluster whose mean is the statistic (Tukey, 1958)
    estimate        a figure with its interval: Wilson's of a share, else resampled by cluster
    swap_test       two-sided p by swapping the two sides of clusters at random (approximate
                    randomization, Noreen, 1989); of a mean this is the sign-flip test

A cluster named "" is none: the sample stands alone. Where every sample does, all of it is the usual
figure of independent samples. Samples of a cluster are resampled, and swapped, together. Built on
`statistics`, whose methods hold as many units as fit in memory; above that, means have the interval
of the normal distribution with a cluster-robust standard error, and other figures plain
percentiles. Not covered: tests against a margin (`noninferiority`).

Legend: N samples, K columns, C clusters, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.evals.distributions import student_cdf, student_quantile
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

__all__ = [
    "ClusterSums",
    "Statistic",
    "are_clustered",
    "cluster_members",
    "cluster_numbers",
    "cluster_sums",
    "clustered_mean",
    "estimate",
    "pseudo_values",
    "swap_test",
]

Ints = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]
# Cells of a table of units that `bootstrap` takes, each left out once and drawn 2,000 times.
_CELLS = 3_000
_RESAMPLES, _DRAWS = 400, 2_000
_AT_ONCE = 1 << 22  # numbers in memory
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class ClusterSums:
    """``sums`` (C,): of the values in each cluster. ``sizes`` (C,): how many there are."""

    sums: Floats
    sizes: Floats

    @property
    def mean(self) -> float:
        """Of all samples, each counted once."""
        return float(self.sums.sum() / self.sizes.sum())

    @property
    def error(self) -> float:
        """Of the mean: sqrt(C / (C - 1) * sum over clusters of (sum of (value - mean))^2) / N, the
        usual s / sqrt(N) without clusters; NaN of fewer than two."""
        count = len(self.sums)
        if count < 2:
            return math.nan
        rest = self.sums - self.mean * self.sizes
        return math.sqrt(float(rest @ rest) * count / (count - 1)) / float(self.sizes.sum())


def are_clustered(clusters: Sequence[str]) -> bool:
    """Whether any two samples share a cluster."""
    named = [name for name in clusters if name]
    return len(set(named)) < len(named)


def cluster_numbers(clusters: Sequence[str], count: int) -> Ints:
    """(N,): the number of each sample's cluster, from 0. No ``clusters`` at all: each alone."""
    if not clusters:
        return np.arange(count)
    if len(clusters) != count:
        raise InputError(
            f"{count} samples have {len(clusters)} names of clusters",
            hint='name one for each sample, "" for one that stands alone',
            param="clusters",
        )
    known: dict[object, int] = {}
    keys = [name or (place,) for place, name in enumerate(clusters)]
    return np.array([known.setdefault(key, len(known)) for key in keys], np.int64)


def cluster_sums(values: npt.ArrayLike, clusters: Sequence[str] = ()) -> ClusterSums:
    """Of ``values`` (N,) that lie in ``clusters`` (N,)."""
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not len(numbers):
        raise InputError(
            f"values of the shape {numbers.shape} are no list of numbers",
            hint="pass a number for each sample",
            param="values",
        )
    places = cluster_numbers(clusters, len(numbers))
    sizes = np.bincount(places).astype(np.float64)
    return ClusterSums(np.bincount(places, weights=numbers).astype(np.float64), sizes)


def clustered_mean(values: npt.ArrayLike, clusters: Sequence[str] = ()) -> Estimate:
    """Mean of ``values`` (N,) with its interval, and p of a mean of nought, both by Student's t
    with C - 1 degrees of freedom."""
    sums = cluster_sums(values, clusters)
    error, degrees = sums.error, len(sums.sums) - 1
    if math.isnan(error):
        return Estimate(sums.mean)
    half = student_quantile((1 + CONFIDENCE) / 2, degrees) * error
    if error:
        p = 2 * student_cdf(-abs(sums.mean) / error, degrees)
    else:
        p = float(sums.mean == 0)
    return Estimate(sums.mean, sums.mean - half, sums.mean + half, p)


def pseudo_values(
    rows: npt.ArrayLike, clusters: Sequence[str] = (), statistic: Statistic = mean_of
) -> Floats:
    """(C,): C times the statistic less C - 1 times that without each cluster. They behave like
    independent values whose mean is ``statistic`` of ``rows`` (N, K), for any smooth statistic."""
    table = np.asarray(rows, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    members = cluster_members(cluster_numbers(clusters, len(table)))
    count = len(members)
    if count < 2:
        return np.array([float(statistic(table))])
    found: Floats = count * float(statistic(table)) - (count - 1) * _without_each(
        table, members, statistic
    )
    return found


def cluster_members(numbers: Ints) -> list[Ints]:
    """The places of the samples of each cluster. ``numbers``: of `cluster_numbers`."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.cumsum(np.bincount(numbers))[:-1])


def _without_each(table: Floats, members: list[Ints], statistic: Statistic) -> Floats:
    kept = np.ones(len(table), dtype=bool)
    found = np.empty(len(members))
    for place, own in enumerate(members):
        kept[own] = False
        found[place] = statistic(table[kept])
        kept[own] = True
    return found


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
