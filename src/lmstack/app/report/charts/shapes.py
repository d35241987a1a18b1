"""Charts as values: text, marks, lines, bars and axes, which a template writes as SVG.

Charts are about 340 units wide, what a phone shows at its own size, so that letters are legible
there; a wide page sets several beside each other. Colours are classes of ``charts.css``, light and
dark; every series has a mark and a dash of its own besides, so that no colour is needed. Not
covered: what a chart shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lmstack.app.report.charts.axes import Axis
from lmstack.app.report.charts.labels import width_of
from lmstack.app.report.pages import place, render

__all__ = [
    "SIZE",
    "WIDE",
    "Chart",
    "Shape",
    "bar",
    "horizontal_axis",
    "line",
    "mark",
    "path",
    "polyline",
    "series_class",
    "series_key",
    "text",
    "vertical_axis",
]

WIDE = 340.0
SIZE = 12.0  # of letters
_COLOURS, _SHAPES, _DASHES = 6, 5, 4


@dataclass(frozen=True)
class Shape:
    """An element of SVG. ``words``: inside of it. ``tip``: on hover."""

    tag: str
    attributes: Mapping[str, str]
    words: str = ""
    tip: str = ""


@dataclass(frozen=True)
class Chart:
    """``title``: a short name. ``about``: what is to be seen, with its numbers, for who cannot see
    it; a chart without both is a decoration beside a number. A template writes it where it stands:
    ``{{ chart }}``."""

    title: str
    about: str
    tall: float
    shapes: Sequence[Shape] = field(repr=False)
    wide: float = WIDE

    def __html__(self) -> str:
        kind = "chart" if self.title else "key"
        return render(f"report/templates/{kind}.svg", chart=self)


def text(
    x: float, y: float, words: str, anchor: str = "start", kind: str = "", whole: str = ""
) -> Shape:
    """``words`` on the baseline ``y``. ``whole``: what they were shortened from, shown on hover."""
    style = {"class": kind} if kind else {}
    at = {"x": place(x), "y": place(y), "text-anchor": anchor}
    return Shape("text", at | style, words, whole if whole != words else "")


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Shape:
    ends = {"x1": place(x1), "y1": place(y1), "x2": place(x2), "y2": place(y2)}
    return Shape("line", {"class": kind} | ends)


def bar(left: float, top: float, wide: float, tall: float, kind: str) -> Shape:
    box = {"x": place(left), "y": place(top), "width": place(wide), "height": place(tall)}
    return Shape("rect", {"class": kind} | box)


def polyline(points: Iterable[tuple[float, float]], kind: str) -> Shape:
    return Shape("polyline", {"class": kind, "points": path(points)})


def path(points: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{place(x)},{place(y)}" for x, y in points)


def series_class(number: int) -> str:
    """Of the ``number``-th series, from 0: its colour and its dash."""
    return f"s{number % _COLOURS} d{number % _DASHES}"


def mark(x: float, y: float, number: int, kind: str | None = None, tip: str = "") -> Shape:
    """The mark of the ``number``-th series: a circle, square, triangle, diamond or cross."""
    shape = number % _SHAPES
    style = {"class": f"mark {kind or series_class(number)}"}
    if shape == 0:
        return Shape("circle", style | {"cx": place(x), "cy": place(y), "r": "4"}, tip=tip)
    points = {
        1: ((-3.7, -3.7), (3.7, -3.7), (3.7, 3.7), (-3.7, 3.7)),
        2: ((0, -4.8), (4.6, 3.6), (-4.6, 3.6)),
        3: ((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)),
        4: ((-5, -1.5), (-1.5, -1.5), (-1.5, -5), (1.5, -5), (1.5, -1.5), (5, -1.5), (5, 1.5),
            (1.5, 1.5), (1.5, 5), (-1.5, 5), (-1.5, 1.5), (-5, 1.5)),
    }[shape]  # fmt: skip
    corners = path((x + dx, y + dy) for dx, dy in points)
    return Shape("polygon", style | {"points": corners}, tip=tip)


def horizontal_axis(axis: Axis, top: float, bottom: float, name: str = "") -> list[Shape]:
    """Quiet lines from ``top`` to ``bottom`` at round values, the values below, the name under
    them. Values that would touch are left out."""
    parts, last = [], -1e9
    for tick in axis.ticks:
        x, words = axis(tick), axis.text(tick)
        parts.append(line(x, top, x, bottom, "grid"))
        half = width_of(words, SIZE) / 2
        middle = min(max(x, half), WIDE - half)
        if middle - half > last + 4:
            parts.append(text(middle, bottom + 15, words, "middle", "tick"))
            last = middle + half
    parts.append(line(axis.start, bottom, axis.end, bottom, "axis"))
    if name:
        parts.append(text((axis.start + axis.end) / 2, bottom + 31, name, "middle", "tick"))
    return parts


def vertical_axis(axis: Axis, left: float, right: float) -> list[Shape]:
    """Quiet lines from ``left`` to ``right`` at round values, the values on the left."""
    parts = []
    for tick in axis.ticks:
        y = axis(tick)
        parts.append(line(left, y, right, y, "grid"))
        parts.append(text(left - 5, y + 4, axis.text(tick), "end", "tick"))
    return parts


def series_key(number: int) -> Chart:
    """For a legend: the dash and the mark of the ``number``-th series."""
    kind = f"curve {series_class(number)}"
    return Chart("", "", 14.0, [line(1, 7, 29, 7, kind), mark(15, 7, number)], 30.0)
