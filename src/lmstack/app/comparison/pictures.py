"""Small pictures for the page of a comparison, as SVG inside of it: no file and no extra needed.

Two histograms over each other, calibration curves, and an interval on a line. Colours are the
page's, light and dark; the base is outlined and the tuned model filled, so that neither colour nor
a screen is needed to tell them apart. Numbers only are drawn: no text of a model.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lmstack.evals.metrics.calibration import Bin
from lmstack.evals.statistics import Estimate

__all__ = ["calibration_curves", "histograms", "interval_line"]

_WIDE, _TALL = 340.0, 170.0  # of a picture
_LEFT, _RIGHT, _TOP, _BELOW = 40.0, 8.0, 10.0, 34.0
_BARS = 24


def histograms(base: Sequence[float], tuned: Sequence[float], unit: str) -> str:
    """How many answers have which value."""
    low, high = min(*base, *tuned), max(*base, *tuned)
    high = high if high > low else low + 1
    counts = [np.histogram(side, _BARS, (low, high))[0] for side in (base, tuned)]
    most = max(int(count.max()) for count in counts) or 1
    step = (_WIDE - _LEFT - _RIGHT) / _BARS
    floor = _TALL - _BELOW

    def height(count: int) -> float:
        return (floor - _TOP) * count / most

    bars = "".join(
        f'<rect class="tuned" x="{_LEFT + i * step:.1f}" y="{floor - height(n):.1f}"'
        f' width="{step - 1:.1f}" height="{height(n):.1f}"/>'
        for i, n in enumerate(counts[1].tolist())
        if n
    )
    line = f"M{_LEFT:.1f},{floor:.1f}"
    for i, n in enumerate(counts[0].tolist()):
        line += f"V{floor - height(n):.1f}H{_LEFT + (i + 1) * step:.1f}"
    outline = f'<path class="base" d="{line}V{floor:.1f}"/>'
    return _picture(
        f"{bars}{outline}{_axis(low, high, unit)}{_number(_LEFT - 4, _TOP + 8, most, 'end')}",
        "Histogram: base outlined, tuned filled",
    )


def calibration_curves(base: Sequence[Bin], tuned: Sequence[Bin]) -> str:
    """The share that was right by the probability that was given, and where both are equal."""
    parts = [
        f'<line class="even" x1="{_x(0):.1f}" y1="{_y(0):.1f}" x2="{_x(1):.1f}" y2="{_y(1):.1f}"/>'
    ]
    for name, bins in (("base", base), ("tuned line", tuned)):
        points = [(_x(each.confidence), _y(each.accuracy)) for each in bins]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline class="{name}" points="{path}"/>')
        parts += [f'<circle class="{name}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in points]
    parts += [_axis(0.0, 1.0, "probability of the likeliest token")]
    parts += [_number(_LEFT - 4, _y(1) + 8, 1, "end"), _number(_LEFT - 4, _y(0), 0, "end")]
    return _picture("".join(parts), "Share that came true by probability: base and tuned")


def interval_line(found: Estimate, scale: float) -> str:
    """A difference and its interval around nought. ``scale``: what half of the width stands for."""
    wide, tall, middle = 120.0, 16.0, 60.0

    def place(value: float) -> float:
        return middle + max(-1.0, min(1.0, value / scale)) * (middle - 4)

    if not scale > 0 or found.low != found.low:
        return ""
    left, right = place(found.low), place(found.high)
    side = "apart" if found.is_apart else "near"
    return (
        f'<svg class="interval" viewBox="0 0 {wide:.0f} {tall:.0f}" width="{wide:.0f}"'
        f' height="{tall:.0f}" aria-hidden="true">'
        f'<line class="even" x1="{middle}" x2="{middle}" y1="1" y2="{tall - 1}"/>'
        f'<line class="{side}" x1="{left:.1f}" x2="{right:.1f}" y1="8" y2="8"/>'
        f'<circle class="{side}" cx="{place(found.value):.1f}" cy="8" r="3.5"/></svg>'
    )


def _x(share: float) -> float:
    return _LEFT + share * (_WIDE - _LEFT - _RIGHT)


def _y(share: float) -> float:
    floor = _TALL - _BELOW
    return floor - share * (floor - _TOP)


def _axis(low: float, high: float, name: str) -> str:
    floor = _TALL - _BELOW
    middle = (_x(0) + _x(1)) / 2
    return (
        f'<line class="axis" x1="{_x(0):.1f}" x2="{_x(1):.1f}" y1="{floor}" y2="{floor}"/>'
        f"{_number(_x(0), floor + 14, low, 'start')}{_number(_x(1), floor + 14, high, 'end')}"
        f'<text x="{middle:.1f}" y="{_TALL - 4}" text-anchor="middle">{name}</text>'
    )


def _number(x: float, y: float, value: float, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{value:.4g}</text>'


def _picture(inside: str, label: str) -> str:
    return (
        f'<svg class="picture" role="img" aria-label="{label}"'
        f' viewBox="0 0 {_WIDE:.0f} {_TALL:.0f}">{inside}</svg>'
    )
