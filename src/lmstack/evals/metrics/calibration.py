"""Whether a model's probabilities hold, what knowing when to abstain is worth, and how often a
score is higher where it should be.

    calibration_error   expected calibration error (Guo et al., 2017), by bins of as many
                        predictions each (equal mass, as HELM has it) or of equal width
    brier, log_score    proper scores: the mean squared error, the mean negative log-probability
    PlattScaling        a logistic curve fitted to confidences (Platt, 1999)
    risk_coverage       accuracy if only the surest share is answered (El-Yaniv and Wiener, 2010)
    auc                 the area under the ROC curve, a tie counting half, with the interval and the
                        paired test of DeLong, DeLong and Clarke-Pearson (1988)

``confidence`` (N,) is the probability of what was predicted, ``correct`` (N,) is 1 where that came.
Not covered: where predictions come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.evals.metrics.scoring import of_each
from lmstack.evals.statistics import CONFIDENCE, Estimate, Floats
from lmstack.evals.task import Metric

__all__ = [
    "Bin",
    "PlattScaling",
    "RiskCoverage",
    "auc",
    "auc_difference",
    "auc_of",
    "brier",
    "calibration_bins",
    "calibration_error",
    "calibration_metrics",
    "log_score",
    "risk_coverage",
]

_BINS = 10
_STEPS = 100  # of Newton's method
_PENALTY = np.array([1e-10, 0.0])  # on (slope, intercept): uncertainty-calibration's C of 1e10
_NUDGE = np.array([0.0, 1e-12])  # keeps the system solvable where every p has become 0 or 1
Binning = Literal["mass", "width"]
_AT_ONCE = 1 << 22  # numbers in memory
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


@dataclass(frozen=True)
class Bin:
    """Means over the ``count`` predictions of a bin."""

    confidence: float
    accuracy: float
    count: int


def calibration_bins(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    bins: int = _BINS,
    by: Binning = "mass",
) -> list[Bin]:
    """Those that hold a prediction, the least sure first. ``by``: "mass", as many predictions in
    each; "width", (0, 0.1], (0.1, 0.2] and so on, the first one with 0."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    order = np.argsort(sure, kind="stable")
    if by == "mass":
        parts = np.array_split(order, min(bins, max(len(sure), 1)))
    else:
        edges = np.arange(1, bins) / bins
        parts = np.split(order, np.searchsorted(sure[order], edges, side="right"))
    return [
        Bin(float(sure[part].mean()), float(right[part].mean()), len(part))
        for part in parts
        if len(part)
    ]


def calibration_error(
    confidence: npt.ArrayLike,
    correct: npt.ArrayLike,
    bins: int = _BINS,
    by: Binning = "mass",
) -> float:
    """The mean, over predictions, of how far their bin's mean confidence is from the share of it
    that was right: between 0 and 1; NaN without a prediction. Never quite 0 for few predictions,
    however well the probabilities hold."""
    found = calibration_bins(confidence, correct, bins, by)
    total = sum(each.count for each in found)
    if not total:
        return float("nan")
    return sum(abs(each.confidence - each.accuracy) * each.count for each in found) / total


def brier(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """The mean squared difference (Brier, 1950), between 0 and 1."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    return float(((sure - right) ** 2).mean())


def log_score(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Nats. Probabilities are cut to what float64 tells from 0 and from 1, as scikit-learn does:
    who was certain and wrong would have an infinite score."""
    least = np.finfo(np.float64).eps
    sure = np.clip(np.asarray(confidence, np.float64), least, 1 - least)
    right = np.asarray(correct, np.float64)
    return float(-(right * np.log(sure) + (1 - right) * np.log1p(-sure)).mean())


@dataclass(frozen=True)
class PlattScaling:
    """The probability 1 / (1 + exp(-(slope x + intercept))) where x is the log-odds of a
    confidence. A slope of 1 and an intercept of 0 change nothing."""

    slope: float
    intercept: float

    @classmethod
    def fit(cls, confidence: npt.ArrayLike, correct: npt.ArrayLike) -> PlattScaling:
        """By Newton's method, the likeliest curve. As uncertainty-calibration does it, with a
        penalty on the slope that counts only where right and wrong are apart and no curve is the
        likeliest. `InputError` where all are right or all wrong."""
        x, y = _log_odds(confidence), np.asarray(correct, np.float64)
        if not 0 < y.mean() < 1:
            raise InputError(
                f"all of {len(y)} predictions are {'right' if y.all() else 'wrong'}, which says"
                " nothing about a curve",
                hint="fit it on samples of which some are right and some wrong",
                param="correct",
            )
        design = np.stack([x, np.ones_like(x)], axis=1)
        weights = np.zeros(2)
        loss = _loss(weights, design, y)
        for _ in range(_STEPS):
            p = _logistic(design @ weights)
            gradient = design.T @ (p - y) + _PENALTY * weights
            hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(_PENALTY + _NUDGE)
            step = np.linalg.solve(hessian, gradient)
            moved, lower = _descended(weights, step, loss, design, y)
            weights, gained, loss = moved, loss - lower, lower
            if gained <= 1e-14 * max(1.0, loss):
                break
        return cls(float(weights[0]), float(weights[1]))

    def __call__(self, confidence: npt.ArrayLike) -> Floats:
        return _logistic(self.slope * _log_odds(confidence) + self.intercept)


def _log_odds(confidence: npt.ArrayLike) -> Floats:
    p = np.clip(np.asarray(confidence, np.float64), 1e-12, 1 - 1e-12)
    found: Floats = np.log(p) - np.log1p(-p)
    return found


def _logistic(x: Floats) -> Floats:
    found: Floats = np.exp(-np.logaddexp(0.0, -x))
    return found


def _loss(weights: Floats, design: Floats, y: Floats) -> float:
    scores = design @ weights
    nats = np.logaddexp(0.0, scores) - y * scores
    return float(nats.sum() + 0.5 * (_PENALTY * weights**2).sum())


def _descended(
    weights: Floats, step: Floats, loss: float, design: Floats, y: Floats
) -> tuple[Floats, float]:
    """The weights after ``step``, halved until the loss is no more than it was, and their loss."""
    for _ in range(50):
        moved = weights - step
        if (lower := _loss(moved, design, y)) <= loss:
            return moved, lower
        step = step / 2
    return weights, loss


@dataclass(frozen=True)
class RiskCoverage:
    """``coverage`` (N,): the share that is answered, 1 / N to 1, the surest first. ``accuracy``
    (N,): of those. Where confidences tie, the mean over all orders."""

    coverage: Floats
    accuracy: Floats

    def accuracy_at(self, coverage: float) -> float:
        """Of the surest ``coverage`` (above 0, at most 1), at least one prediction."""
        if not 0 < coverage <= 1:
            raise InputError(
                f"coverage is {coverage!r}, not above 0 and at most 1", param="coverage"
            )
        return float(self.accuracy[_answered(coverage, len(self.accuracy)) - 1])

    @property
    def area(self) -> float:
        """Under the curve of the error rate (AURC): 0 if nothing is wrong."""
        return float(1 - self.accuracy.mean())


def risk_coverage(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> RiskCoverage:
    """Neither is empty."""
    rows = np.stack([np.asarray(side, np.float64) for side in (confidence, correct)], axis=1)
    return RiskCoverage(np.arange(1, len(rows) + 1) / len(rows), _accuracies(rows))


def _answered(coverage: float, count: int) -> int:
    """At least one; 0.07 * 100 is a little more than 7."""
    return max(int(count * coverage + 1e-9), 1)


def _accuracies(rows: Floats) -> Floats:
    """Of the surest 1, 2 and so on of each table, (..., N, 2) to (..., N)."""
    tables = rows.reshape(-1, *rows.shape[-2:])
    number, count = tables.shape[:2]
    order = np.argsort(-tables[..., 0], axis=1, kind="stable")
    sure, right = (np.take_along_axis(tables[..., k], order, 1) for k in (0, 1))
    is_new = np.ones((number, count), bool)  # not the confidence of the one before
    is_new[:, 1:] = sure[:, 1:] != sure[:, :-1]
    groups = np.cumsum(is_new) - 1
    sums, sizes = np.bincount(groups, right.ravel()), np.bincount(groups)
    means = (sums / sizes)[groups].reshape(number, count)
    found: Floats = np.cumsum(means, axis=1) / np.arange(1, count + 1)
    return found.reshape(rows.shape[:-1])


_Figure = Callable[[npt.ArrayLike, npt.ArrayLike], float]


def calibration_metrics(
    confidence: str = "confidence",
    correct: str = "acc",
    *,
    coverages: Sequence[float] = (0.1, 0.5),
    scaled: bool = False,
) -> tuple[Metric, ...]:
    """Figures of two scores that another scorer gives, by the names of their columns: calibration
    error by mass and by width, Brier score, log score, area under the risk-coverage curve, accuracy
    at ``coverages``, AUC. ``scaled``: and the calibration error that is left after a curve fitted
    to the same samples (HELM), which takes seconds with its interval."""
    columns = (confidence, correct)
    of_loss: dict[str, Callable[[Floats], Floats]] = {
        "ece": _errors_by_mass,
        "ece_equal_width": _errors_by_width,
        **({"ece_after_platt": _by_table(_error_after_scaling)} if scaled else {}),
        "brier": _briers,
        "log_score": _by_table(log_score),
        "aurc": _risk_areas,
    }
    return (
        *(
            Metric(name, columns, statistic, "lower", is_share=False)
            for name, statistic in of_loss.items()
        ),
        *(
            Metric(
                f"accuracy_at_{coverage:g}",
                columns,
                partial(_accuracies_at, coverage=coverage),
                is_share=False,
            )
            for coverage in coverages
        ),
        Metric("auc", columns, auc_of, is_share=False),
    )


def _errors_by_mass(rows: Floats) -> Floats:
    """`calibration_error` of many tables at once, (..., N, 2) to (...): of a bin the distance of
    the means, times its count, is that of the sums."""
    count = rows.shape[-2]
    order = np.argsort(rows[..., 0], axis=-1, kind="stable")
    apart = np.take_along_axis(rows[..., 0] - rows[..., 1], order, -1)
    sizes = [len(part) for part in np.array_split(range(count), min(_BINS, max(count, 1)))]
    starts = np.cumsum([0, *sizes[:-1]])
    found: Floats = np.abs(np.add.reduceat(apart, starts, axis=-1)).sum(-1) / count
    return found


def _errors_by_width(rows: Floats) -> Floats:
    """As `_errors_by_mass`, by bins of equal width."""
    places = np.searchsorted(np.arange(1, _BINS) / _BINS, rows[..., 0], side="left")
    apart = rows[..., 0] - rows[..., 1]
    sums = [np.abs(np.where(places == place, apart, 0.0).sum(-1)) for place in range(_BINS)]
    found: Floats = np.sum(sums, axis=0) / rows.shape[-2]
    return found


def _briers(rows: Floats) -> Floats:
    found: Floats = ((rows[..., 0] - rows[..., 1]) ** 2).mean(-1)
    return found


def _by_table(figure: _Figure) -> Callable[[Floats], Floats]:
    return partial(of_each, statistic=partial(_of_columns, figure=figure))


def _of_columns(table: Floats, figure: _Figure) -> float:
    return figure(table[:, 0], table[:, 1])


def _risk_areas(rows: Floats) -> Floats:
    found: Floats = 1 - _accuracies(rows).mean(-1)
    return found


def _accuracies_at(rows: Floats, coverage: float) -> Floats:
    found: Floats = _accuracies(rows)[..., _answered(coverage, rows.shape[-2]) - 1]
    return found


def _error_after_scaling(confidence: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    right = np.asarray(correct, np.float64)
    if not 0 < right.mean() < 1:
        return math.nan
    return calibration_error(PlattScaling.fit(confidence, right)(confidence), right)


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
