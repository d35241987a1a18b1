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

from lmstack.evals.statistics import CONFIDENCE, Estimate, Floats

__all__ = ["auc", "auc_difference", "auc_of"]

_AT_ONCE = 1 << 22  # numbers in memory
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
    tables = rows.reshape(-1, *rows.shape[-2:])
    scores, places = np.unique(tables[..., 0], return_inverse=True)
    places, positive = places.reshape(tables.shape[:2]), tables[..., 1] > 0
    part = max(1, _AT_ONCE // max(len(scores), 1))
    areas = [
        _areas(places[at : at + part], positive[at : at + part], len(scores))
        for at in range(0, len(tables), part)
    ]
    found: Floats = np.concatenate(areas).reshape(rows.shape[:-2])
    return found


def _areas(
    places: npt.NDArray[np.intp], positive: npt.NDArray[np.bool_], count: int
) -> npt.NDArray[np.float64]:
    """Of tables (R, N) each, by how many of either kind have each of ``count`` scores: no pair is
    looked at. ``places``: of each score among them."""
    tables = len(places)
    cells = places + count * np.arange(tables)[:, None]
    above, below = (
        np.bincount(cells[chosen], minlength=tables * count).reshape(tables, count)
        for chosen in (positive, ~positive)
    )
    wins = (above * (below.cumsum(axis=1) - below / 2)).sum(axis=1)
    pairs = (above.sum(axis=1) * below.sum(axis=1)).astype(np.float64)
    found: npt.NDArray[np.float64] = np.full(tables, math.nan)
    np.divide(wins, pairs, out=found, where=pairs > 0)
    return found
