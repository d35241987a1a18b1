"""Whether a model's probabilities hold: the reliability diagram, and accuracy by coverage.

A result has them where its samples have a confidence and were right or wrong. Bins of the diagram
are of equal width, so that counts say how sure the model is; figures are named for their bins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmstack.app.formats import quantity
from lmstack.app.page.evaluation.report import Model, TaskRow, percent
from lmstack.app.report.charts.axes import Axis, axis_over
from lmstack.app.report.charts.shapes import (
    WIDE,
    Chart,
    Shape,
    bar,
    horizontal_axis,
    line,
    mark,
    polyline,
    series_class,
    text,
    vertical_axis,
)
from lmstack.evals.clustered import estimate
from lmstack.evals.metrics.calibration import (
    Bin,
    RiskCoverage,
    calibration_bins,
    calibration_metrics,
    risk_coverage,
)
from lmstack.evals.results import TaskResult
from lmstack.evals.statistics import Estimate, Floats, mean_of, wilson

__all__ = ["CalibrationCurve", "calibration_of", "reliability_diagram", "selective_accuracy"]

SHOWN = {
    "ece": "ECE, bins of equal mass",
    "ece_equal_width": "ECE, bins of equal width",
    "brier": "Brier score",
    "aurc": "Area under the risk-coverage curve",
}
_CONFIDENCE, _OF_LIKELIEST = "confidence", "acc"
_FEWEST = 10  # answers, of which an accuracy is drawn
_POINTS = 160  # of a curve
_TOP, _FLOOR, _COUNTS, _TALL = 10.0, 182.0, 226.0, 262.0
_LEFT, _RIGHT = 48.0, WIDE - 10


@dataclass(frozen=True)
class CalibrationCurve:
    """Of one model on one task. ``column``: the score that says whether what had the confidence
    was right. ``figures``: by the names of `SHOWN`."""

    column: str
    samples: int
    confidence: float
    accuracy: float
    bins: tuple[Bin, ...]
    curve: RiskCoverage
    figures: dict[str, Estimate]


def calibration_of(result: TaskResult) -> CalibrationCurve | None:
    """None where the samples have no confidence from 0 to 1, or are not right or wrong."""
    column = _correct(result)
    if column is None:
        return None
    samples = [
        each for each in result.samples if _CONFIDENCE in each.scores and column in each.scores
    ]
    table = np.array([[s.scores[_CONFIDENCE], s.scores[column]] for s in samples], np.float64)
    if not len(samples) or not np.isfinite(table).all():
        return None
    if (
        not ((table[:, 0] >= 0) & (table[:, 0] <= 1)).all()
        or not np.isin(table[:, 1], (0, 1)).all()
    ):
        return None
    clusters = [each.cluster for each in samples]
    metrics = calibration_metrics(_CONFIDENCE, column)
    return CalibrationCurve(
        column,
        len(samples),
        float(table[:, 0].mean()),
        float(table[:, 1].mean()),
        tuple(calibration_bins(table[:, 0], table[:, 1], by="width")),
        risk_coverage(table[:, 0], table[:, 1]),
        {m.name: estimate(table, clusters, m.statistic) for m in metrics if m.name in SHOWN},
    )


def _correct(result: TaskResult) -> str | None:
    """What a figure of calibration names beside the confidence. Scorers of choices have the
    confidence of the likeliest, which is right where `_OF_LIKELIEST` is 1, whatever a task's first
    metric divides by. Otherwise the first metric's."""
    for metric in result.metrics:
        if len(metric.columns) == 2 and metric.columns[0] == _CONFIDENCE:
            return metric.columns[1]
    if all(_OF_LIKELIEST in each.scores for each in result.samples if not each.failed):
        return _OF_LIKELIEST
    first = result.metrics[0] if result.metrics else None
    if first is None or not first.is_share or first.statistic is not mean_of:
        return None
    return first.columns[0]


def reliability_diagram(row: TaskRow, model: Model, found: CalibrationCurve) -> Chart:
    """The share that was right by the confidence, with Wilson's interval, the line on which a
    calibrated model lies, and how many samples each bin has."""
    x = Axis(0.0, 1.0, _LEFT, _RIGHT, is_share=True)
    y = Axis(0.0, 1.0, _FLOOR, _TOP, is_share=True)
    kind = series_class(model.number)
    parts = [
        *vertical_axis(y, _LEFT, _RIGHT),
        line(x(0), y(0), x(1), y(1), "even"),
        *_counts(found.bins, x),
        *horizontal_axis(x, _COUNTS, _COUNTS, "confidence"),
    ]
    for each in found.bins:
        interval = wilson(each.accuracy * each.count, each.count)
        at = x(each.confidence)
        parts.append(line(at, y(interval.low), at, y(interval.high), f"interval {kind}"))
        tip = f"{percent(each.accuracy)} of {each.count:,} right at {percent(each.confidence)}"
        parts.append(mark(at, y(each.accuracy), model.number, tip=tip))
    said = "; ".join(
        f"confidence {percent(b.confidence)}: {percent(b.accuracy)} right of {b.count:,}"
        for b in found.bins
    )
    title = f"Reliability of {model.label} on {row.label}"
    return Chart(title, said, _TALL, parts)


def _counts(bins: tuple[Bin, ...], x: Axis) -> list[Shape]:
    """Bars under the diagram, as high as a bin has samples, with their number on top."""
    most = max(each.count for each in bins)
    wide = (x.end - x.start) / 10
    parts = []
    for each in bins:
        # A bin holds what is above its lower edge, so that a confidence of 0.3 is in the third.
        number = min(max(int(np.ceil(each.confidence * 10 - 1e-9)) - 1, 0), 9)
        tall = max(26.0 * each.count / most, 1.0)
        left = x.start + number * wide
        parts.append(bar(left + 1.5, _COUNTS - tall, wide - 3, tall, "count"))
        parts.append(text(left + wide / 2, _COUNTS - tall - 3, quantity(each.count), "middle"))
    return parts


def selective_accuracy(row: TaskRow, found: list[tuple[Model, CalibrationCurve]]) -> Chart:
    """Accuracy if only the surest share is answered, from the first `_FEWEST` answers on."""
    curves = [(model, *_points(each.curve)) for model, each in found]
    x = Axis(0.0, 1.0, _LEFT, _RIGHT, is_share=True)
    values = [float(v) for _, _, accuracy in curves for v in accuracy]
    y = axis_over(values, _COUNTS, _TOP, is_share=True, whole=(0.0, 1.0))
    parts = vertical_axis(y, _LEFT, _RIGHT) + horizontal_axis(x, _COUNTS, _COUNTS, "answered")
    for model, coverage, accuracy in curves:
        points = [(x(float(c)), y(float(a))) for c, a in zip(coverage, accuracy, strict=True)]
        parts.append(polyline(points, f"curve {series_class(model.number)}"))
        parts.append(mark(x(1.0), y(float(accuracy[-1])), model.number))
    said = "; ".join(
        f"{model.label}: "
        + ", ".join(
            f"{percent(each.curve.accuracy_at(c))} at {percent(c, 0)}"
            for c in (0.1, 0.25, 0.5, 1.0)
        )
        for model, each in found
    )
    return Chart(f"Selective accuracy on {row.label}", said, _TALL, parts)


def _points(curve: RiskCoverage) -> tuple[Floats, Floats]:
    first = min(_FEWEST, len(curve.coverage)) - 1
    count = min(_POINTS, len(curve.coverage) - first)
    kept = np.unique(np.linspace(first, len(curve.coverage) - 1, count).round().astype(int))
    return curve.coverage[kept], curve.accuracy[kept]
