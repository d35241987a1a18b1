"""Whether a model's probabilities hold: the expected calibration error (Guo et al., 2017).

Predictions are sorted by their confidence and cut into bins of as many predictions each (equal
mass, as HELM has it); the error is the mean, over bins, of how far the mean confidence is from the
share that was right. Not covered: where predictions come from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Bin", "calibration_bins", "calibration_error"]

_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Means over the ``count`` predictions of a bin."""

    confidence: float
    accuracy: float
    count: int


def calibration_bins(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = _BINS
) -> list[Bin]:
    """``confidence`` (N,): the probability of what was predicted. ``correct`` (N,): 1 where that
    came. Fewer bins where there are fewer predictions."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    order = np.argsort(sure, kind="stable")
    parts = np.array_split(order, min(bins, max(len(sure), 1)))
    return [
        Bin(float(sure[part].mean()), float(right[part].mean()), len(part))
        for part in parts
        if len(part)
    ]


def calibration_error(
    confidence: npt.ArrayLike, correct: npt.ArrayLike, bins: int = _BINS
) -> float:
    """Between 0 and 1; NaN without a prediction."""
    found = calibration_bins(confidence, correct, bins)
    total = sum(each.count for each in found)
    if not total:
        return float("nan")
    return sum(abs(each.confidence - each.accuracy) * each.count for each in found) / total
