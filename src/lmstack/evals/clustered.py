"""Figures of samples that come in clusters: several questions on a passage, several drafts of one.

    cluster_sums    the sum and the size of each cluster, and the standard error of their mean with
                    the factor C / (C - 1) (Miller, 2024, arXiv:2411.00640)
    clustered_mean  mean with Student's interval, C - 1 degrees of freedom
    pseudo_values   jackknife: one number a cluster whose mean is the statistic (Tukey, 1958)

A cluster named "" is none: the sample stands alone. Where every sample does, all of it is the usual
figure of independent samples. Not covered: other intervals and tests (`intervals`), and those
against a margin (`noninferiority`).

Legend: N samples, K columns, C clusters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.evals.distributions import student_cdf, student_quantile
from lmstack.evals.statistics import CONFIDENCE, Estimate, mean_of

__all__ = [
    "ClusterSums",
    "Statistic",
    "are_clustered",
    "cluster_members",
    "cluster_numbers",
    "cluster_sums",
    "clustered_mean",
    "pseudo_values",
]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Statistic = Callable[[Floats], Floats]


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
