"""What answers cost: seconds and tokens a sample, and money where a price is known; and the score
that it buys, as a scatter with intervals both ways."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lmstack.app.page.evaluation.report import Model, TaskRow, number_of
from lmstack.app.report.charts.axes import Axis, axis_over
from lmstack.app.report.charts.labels import Box, abridged, beside, width_of
from lmstack.app.report.charts.shapes import (
    SIZE,
    WIDE,
    Chart,
    horizontal_axis,
    line,
    mark,
    series_class,
    text,
    vertical_axis,
)
from lmstack.evals.clustered import estimate
from lmstack.evals.results import SampleResult, TaskResult
from lmstack.evals.statistics import Estimate

__all__ = ["MEASURES", "CostMeasure", "cost_of", "score_against_cost"]

_TOP, _FLOOR, _TALL = 10.0, 200.0, 236.0
_LEFT, _RIGHT = 56.0, WIDE - 10
_ROOM = 132.0  # of a label


@dataclass(frozen=True)
class CostMeasure:
    """``unit``: of the axis. ``decimals``: as written."""

    name: str
    unit: str
    decimals: int


MEASURES = (
    CostMeasure("seconds", "seconds a sample", 3),
    CostMeasure("tokens", "tokens a sample", 1),
    CostMeasure("cost", "cost a sample", 6),
)


def cost_of(result: TaskResult, measure: CostMeasure) -> Estimate | None:
    """The mean over samples that did not fail; None where it is not known or nothing was spent."""
    samples = [each for each in result.samples if not each.failed]
    values = [_spent(each, measure.name) for each in samples]
    if not values or not all(map(math.isfinite, values)) or not any(values):
        return None
    return estimate(values, [each.cluster for each in samples])


def _spent(sample: SampleResult, name: str) -> float:
    if name == "seconds":
        return sample.seconds
    if name == "tokens":
        return float(sample.prompt_tokens + sample.completion_tokens)
    return sample.scores.get(name, math.nan)


def score_against_cost(
    row: TaskRow, measure: CostMeasure, points: list[tuple[Model, Estimate, Estimate]]
) -> Chart:
    """``points``: of each model, its cost and its score."""
    metric = row.metric
    assert metric is not None
    x = axis_over(_bounds([c for _, c, _ in points]), _LEFT, _RIGHT, may_be_log=True)
    whole = (0.0, 1.0) if metric.is_share else None
    scores = _bounds([s for _, _, s in points])
    y = axis_over(scores, _FLOOR, _TOP, is_share=metric.is_share, whole=whole)
    parts = vertical_axis(y, _LEFT, _RIGHT) + horizontal_axis(x, _TOP, _FLOOR, measure.unit)
    taken, places, names = [], [], []
    for model, cost, score in points:
        kind, at = f"interval {series_class(model.number)}", (x(cost.value), y(score.value))
        for whisker in _whiskers(x, y, cost, score):
            parts.append(line(*whisker, kind))
            taken.append(_box(*whisker))
        tip = f"{model.label}: {number_of(metric, score.value)}, {cost.value:.3g} {measure.unit}"
        parts.append(mark(*at, model.number, tip=tip))
        places.append(at)
        names.append(abridged(model.label, _ROOM, SIZE))
    frame = Box(_LEFT, _TOP - 4, WIDE - 2, _FLOOR - 2)
    boxes = beside(places, names, SIZE, frame, taken)
    for (model, _, _), name, box in zip(points, names, boxes, strict=True):
        if box is not None:
            middle = box.left + width_of(name, SIZE) / 2
            kind = f"of {series_class(model.number)}"
            parts.append(text(middle, box.bottom - 4, name, "middle", kind, model.label))
    said = "; ".join(
        f"{m.label}: {metric.name} {number_of(metric, s.value)} at {c.value:.4g} {measure.unit}"
        for m, c, s in points
    )
    title = f"{row.label}: {metric.name} against {measure.name}"
    return Chart(title, said, _TALL, parts)


def _bounds(estimates: list[Estimate]) -> list[float]:
    return [bound for each in estimates for bound in (each.value, each.low, each.high)]


def _whiskers(
    x: Axis, y: Axis, cost: Estimate, score: Estimate
) -> list[tuple[float, float, float, float]]:
    found = []
    if math.isfinite(cost.low) and math.isfinite(cost.high):
        found.append((x(cost.low), y(score.value), x(cost.high), y(score.value)))
    if math.isfinite(score.low) and math.isfinite(score.high):
        found.append((x(cost.value), y(score.low), x(cost.value), y(score.high)))
    return found


def _box(x1: float, y1: float, x2: float, y2: float) -> Box:
    return Box(min(x1, x2) - 1, min(y1, y2) - 1, max(x1, x2) + 1, max(y1, y2) + 1)
