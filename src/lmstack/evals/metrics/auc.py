"""The area under the ROC curve: how often a score is higher where it should be.

With the interval and the paired test of DeLong, DeLong and Clarke-Pearson (1988). A tie counts
half. Not covered: whether scores hold as probabilities (`calibration`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmstack.evals.metrics.scoring import of_each
from lmstack.evals.statistics import CONFIDENCE, Estimate, Floats

__all__ = ["auc", "auc_difference", "auc_of"]

_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def auc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> Estimate:
    """How often a positive has the higher score than a negative. Neither is empty."""
    parts = _placements(positives, negatives)
    area = float(parts[0].mean())
    half = _Z * math.sqrt(_variance(parts))
    return Estimate(area, max(0.0, area - half), min(1.0, area + half))


def auc_difference(
    before: tuple[npt.ArrayLike, npt.ArrayLike], after: tuple[npt.ArrayLike, npt.ArrayLike]
) -> Estimate:
    """How much larger the area of ``after`` is than that of ``before``, each (positives,
    negatives): the scores of the same items."""
    pairs = zip(_placements(*after), _placements(*before), strict=True)
    parts = [new - old for new, old in pairs]
    value, variance = float(parts[0].mean()), _variance(parts)
    if variance == 0:
        return Estimate(value, value, value, 1.0 if value == 0 else 0.0)
    half = _Z * math.sqrt(variance)
    p = math.erfc(abs(value) / math.sqrt(2 * variance))
    return Estimate(value, value - half, value + half, p)


def _placements(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> list[Floats]:
    """Of each positive the share of negatives below it; of each negative, of positives above."""
    above, below = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    wins = (above[:, None] > below[None]) + 0.5 * (above[:, None] == below[None])
    return [wins.mean(axis) for axis in (1, 0)]


def _variance(parts: Sequence[Floats]) -> float:
    return sum(float(part.var(ddof=1)) / len(part) for part in parts if len(part) > 1)


def auc_of(rows: Floats) -> Floats:
    """(..., N, 2) to (...): the columns being a score and 1 for a positive, 0 for a negative. NaN
    where all are one or the other."""
    return of_each(rows, _by_ranks)


def _by_ranks(table: Floats) -> float:
    """By the sum of the positives' ranks (Mann and Whitney, 1947): no pair is looked at."""
    _, group, counts = np.unique(table[:, 0], return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[group]
    positive = table[:, 1] > 0
    above, below = int(positive.sum()), int((~positive).sum())
    if not above or not below:
        return math.nan
    return float((ranks[positive].sum() - above * (above + 1) / 2) / (above * below))
