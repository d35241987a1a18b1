"""Figures with their intervals on a common scale: of tasks and models (a dot plot), and of the
rules of a gate with their bounds (a forest plot).

Every row has its name above its marks, so that it fits a phone. Values stand at the right, as text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lmstack.app.report.charts.axes import Axis, axis_over
from lmstack.app.report.charts.labels import shortened, width_of
from lmstack.app.report.charts.shapes import (
    SIZE,
    WIDE,
    Chart,
    Shape,
    horizontal_axis,
    line,
    mark,
    series_class,
    text,
)

__all__ = ["IntervalMark", "PlotRow", "interval_plot"]

_LEFT, _TOP = 8.0, 6.0
_NAME, _LINE, _BETWEEN = 17.0, 15.0, 7.0  # heights


@dataclass(frozen=True)
class IntervalMark:
    """A value with its interval, NaN where there is none. ``number``: of its shape. ``kind``: its
    class, where that is not its model's. ``words``: at the right of it. ``tip``: on hover."""

    value: float
    low: float = math.nan
    high: float = math.nan
    number: int = 0
    kind: str = ""
    words: str = ""
    tip: str = ""

    @property
    def has_interval(self) -> bool:
        return math.isfinite(self.low) and math.isfinite(self.high)


@dataclass(frozen=True)
class PlotRow:
    """``bound``: what a rule asks for, drawn across the row's marks."""

    name: str
    marks: tuple[IntervalMark, ...]
    bound: float | None = None


def interval_plot(
    title: str,
    rows: Sequence[PlotRow],
    *,
    is_share: bool,
    suffix: str = " %",
    whole: tuple[float, float] | None = None,
    zero: bool = False,
    number: Callable[[float], str] = "{:.3g}".format,
) -> Chart:
    """``suffix``, ``whole``: as of `axis_over`. ``zero``: with a line at no difference.
    ``number``: how values are said to who cannot see the picture."""
    room = max((width_of(m.words, SIZE) for row in rows for m in row.marks), default=0.0)
    values = [v for row in rows for m in row.marks for v in (m.value, m.low, m.high)]
    values += [row.bound for row in rows if row.bound is not None]
    right = WIDE - (room + 12 if room else 10)
    values += [0.0] if zero else []
    axis = axis_over(values, _LEFT, right, is_share=is_share, suffix=suffix, whole=whole)
    bottom = _TOP + sum(_height(row) for row in rows)
    parts = horizontal_axis(axis, _TOP, bottom)
    if zero:
        parts.append(line(axis(0.0), _TOP, axis(0.0), bottom, "axis"))
    top = _TOP
    for row in rows:
        parts += _row(row, axis, top)
        top += _height(row)
    about = "; ".join(_said(row, number) for row in rows)
    return Chart(title, about, bottom + 22, parts)


def _height(row: PlotRow) -> float:
    return _NAME + _LINE * max(len(row.marks), 1) + _BETWEEN


def _row(row: PlotRow, axis: Axis, top: float) -> list[Shape]:
    name = shortened(row.name, WIDE - _LEFT - 4, SIZE)
    parts = [text(_LEFT, top + 13, name, kind="name", whole=row.name)]
    y = top + _NAME + _LINE / 2
    for each in row.marks:
        parts += _mark(each, axis, y)
        y += _LINE
    if row.bound is not None:
        x = axis(row.bound)
        parts.append(line(x, top + _NAME - 1, x, y - _LINE / 2 + 1, "bound"))
    return parts


def _mark(each: IntervalMark, axis: Axis, y: float) -> list[Shape]:
    kind = each.kind or series_class(each.number)
    parts = []
    if each.has_interval:
        low, high = axis(each.low), axis(each.high)
        parts.append(line(low, y, high, y, f"interval {kind}"))
        parts += [line(x, y - 3, x, y + 3, f"interval {kind}") for x in (low, high)]
    if math.isfinite(each.value):
        parts.append(mark(axis(each.value), y, each.number, kind, each.tip))
    if each.words:
        parts.append(text(WIDE - 4, y + 4, each.words, "end"))
    return parts


def _said(row: PlotRow, number: Callable[[float], str]) -> str:
    marks = []
    for each in row.marks:
        interval = f" ({number(each.low)} to {number(each.high)})" if each.has_interval else ""
        marks.append(each.tip or f"{number(each.value)}{interval}")
    bound = "" if row.bound is None else f", bound {number(row.bound)}"
    return f"{row.name}: {', '.join(marks)}{bound}"
