"""Charts for the page of a comparison: two histograms over each other, calibration curves, and an
interval on a line.

The base is outlined and the tuned model filled, so that neither colour nor a screen is needed to
tell them apart. Numbers only are drawn: no text of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmstack.app.report.charts.axes import Axis
from lmstack.app.report.charts.shapes import (
    WIDE,
    Chart,
    bar,
    horizontal_axis,
    line,
    mark,
    polyline,
    series_class,
    vertical_axis,
)
from lmstack.evals.metrics.calibration import Bin
from lmstack.evals.statistics import Estimate

__all__ = ["calibration_curves", "histograms", "interval_line"]

_TALL, _TOP, _FLOOR = 176.0, 10.0, 140.0
_LEFT, _RIGHT = 48.0, WIDE - 10
_BARS = 24


def histograms(base: Sequence[float], tuned: Sequence[float], unit: str) -> Chart:
    """How many answers have which value."""
    low, high = min(*base, *tuned), max(*base, *tuned)
    high = high if high > low else low + 1
    counts = [np.histogram(side, _BARS, (low, high))[0].tolist() for side in (base, tuned)]
    x = Axis(low, high, _LEFT, _RIGHT)
    y = Axis(0.0, float(max(map(max, counts)) or 1), _FLOOR, _TOP)
    step = (_RIGHT - _LEFT) / _BARS
    lefts = [_LEFT + number * step for number in range(_BARS)]
    bars = [
        bar(left, y(count), step - 1, _FLOOR - y(count), "tuned")
        for left, count in zip(lefts, counts[1], strict=True)
        if count
    ]
    outline = [(_LEFT, _FLOOR)]
    for left, count in zip(lefts, counts[0], strict=True):
        outline += [(left, y(count)), (left + step, y(count))]
    shapes = [
        *vertical_axis(y, _LEFT, _RIGHT),
        *bars,
        polyline([*outline, (_RIGHT, _FLOOR)], "base"),
        *horizontal_axis(x, _FLOOR, _FLOOR, unit),
    ]
    return Chart("Histogram: base outlined, tuned filled", _said(base, tuned, unit), _TALL, shapes)


def _said(base: Sequence[float], tuned: Sequence[float], unit: str) -> str:
    sides = (("base", base), ("tuned", tuned))
    return "; ".join(
        f"{name}: {min(side):.4g} to {max(side):.4g} {unit}, median {np.median(side):.4g}"
        for name, side in sides
    )


def calibration_curves(base: Sequence[Bin], tuned: Sequence[Bin]) -> Chart:
    """The share that was right by the probability that was given, and where both are equal."""
    x = Axis(0.0, 1.0, _LEFT, _RIGHT, is_share=True)
    y = Axis(0.0, 1.0, _FLOOR, _TOP, is_share=True)
    shapes = [
        *vertical_axis(y, _LEFT, _RIGHT),
        line(x(0), y(0), x(1), y(1), "even"),
        *horizontal_axis(x, _FLOOR, _FLOOR, "probability of the likeliest token"),
    ]
    said = []
    for name, bins in (("base", base), ("tuned", tuned)):
        points = [(x(each.confidence), y(each.accuracy)) for each in bins]
        shapes.append(polyline(points, f"curve {name}"))
        shapes += [mark(*point, 0, name) for point in points]
        pairs = ", ".join(f"{each.accuracy:.1%} at {each.confidence:.1%}" for each in bins)
        said.append(f"{name}: {pairs}")
    title = "Share that came true by probability: base and tuned"
    return Chart(title, "; ".join(said), _TALL, shapes)


def interval_line(found: Estimate) -> Chart | None:
    """A difference and its interval around nought, which is in the middle. None where there is
    nothing to see."""
    reach = max(abs(found.low), abs(found.high))
    if not reach > 0 or not np.isfinite(reach):
        return None
    axis = Axis(-reach, reach, 4.0, 116.0)
    kind = series_class(0) if found.is_apart else "undecided"
    shapes = [
        line(axis(0.0), 1, axis(0.0), 15, "even"),
        line(axis(found.low), 8, axis(found.high), 8, f"interval {kind}"),
        mark(axis(found.value), 8, 0, kind),
    ]
    return Chart("", "", 16.0, shapes, 120.0)
