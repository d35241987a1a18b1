"""The slope of what a judge says on one trait of what it judges, what else is known held.

    partial_slope   least squares, the trait and the outcome less what the controls explain;
                    interval by the jackknife over clusters with Student's t (the estimator CR3 of
                    Bell and McCaffrey, 2002, up to its centre); p by random signs of the clusters'
                    scores (the score bootstrap of Kline and Santos, 2012), which is exact for
                    errors that are as often of either sign

Legend: N rows, C controls, G clusters, K columns.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmstack.evals.clustered import cluster_numbers
from lmstack.evals.distributions import student_quantile
from lmstack.evals.statistics import CONFIDENCE, Estimate, Floats, sign_flip

__all__ = ["partial_slope"]

_DRAWS = 999
_MANY = 5000  # clusters beyond which scores are normal, and signs are not drawn
_TINY = 1e-9


def partial_slope(
    outcome: npt.ArrayLike,
    trait: npt.ArrayLike,
    controls: npt.ArrayLike = (),
    clusters: Sequence[str] = (),
) -> Estimate:
    """Of ``outcome`` (N,) on ``trait`` (N,), given ``controls`` (N, C) or none. A column of ones
    among the controls is an intercept. NaN where the trait does not vary beyond the controls."""
    y, x = np.asarray(outcome, np.float64), np.asarray(trait, np.float64)
    z = np.asarray(controls, np.float64).reshape(len(y), -1)
    rest_x, rest_y = _without(x, z), _without(y, z)
    if np.abs(rest_x).max(initial=0.0) <= _TINY * max(np.abs(x).max(initial=0.0), _TINY):
        return Estimate(math.nan)
    table = np.column_stack([x, z])
    numbers = cluster_numbers(clusters, len(y))
    count = int(numbers.max()) + 1
    slope = float(rest_x @ rest_y / (rest_x @ rest_x))
    scale = float(np.abs(y).max(initial=0.0)) / float(np.abs(rest_x).max())
    if np.abs(rest_y).max() <= _TINY * max(float(np.abs(y).max()), _TINY):
        return Estimate(0.0, 0.0, 0.0, 1.0)  # the controls explain all of it
    slope = 0.0 if abs(slope) <= _TINY * scale else slope
    scores = np.zeros(count)
    np.add.at(scores, numbers, rest_x * rest_y)
    error = _jackknife(table, y, numbers, count)
    degrees = count - int(np.linalg.matrix_rank(table))
    if degrees < 1 or not math.isfinite(error):
        return Estimate(slope, p=_p(scores))
    half = student_quantile((1 + CONFIDENCE) / 2, degrees) * error
    return Estimate(slope, slope - half, slope + half, _p(scores))


def _without(values: Floats, z: Floats) -> Floats:
    """``values`` less what ``z`` (N, C) explains of them."""
    if not z.shape[1]:
        return values
    found: Floats = values - z @ np.linalg.lstsq(z, values, rcond=None)[0]
    return found


def _jackknife(table: Floats, y: Floats, numbers: npt.NDArray[np.int64], count: int) -> float:
    """The standard error of the first coefficient, each cluster left out once; NaN of one cluster.
    Columns that say the same as others, with all rows or without some, change nothing."""
    width = table.shape[1]
    grams, moments = np.zeros((count, width, width)), np.zeros((count, width))
    np.add.at(grams, numbers, table[:, :, None] * table[:, None, :])
    np.add.at(moments, numbers, table * y[:, None])
    if count < 2:
        return math.nan
    inverses = np.linalg.pinv(grams.sum(0) - grams, rcond=_TINY, hermitian=True)
    slopes = (inverses @ (moments.sum(0) - moments)[..., None])[:, 0, 0]
    return math.sqrt((count - 1) / count * float(((slopes - slopes.mean()) ** 2).sum()))


def _p(scores: Floats) -> float:
    if len(scores) <= _MANY:
        return sign_flip(scores, draws=_DRAWS)
    size = math.sqrt(float(scores @ scores))
    return 2 * NormalDist().cdf(-abs(float(scores.sum())) / size) if size else 1.0
