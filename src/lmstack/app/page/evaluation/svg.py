"""Elements of SVG, drawn into the page: text that is escaped, marks, lines, legends.

Pictures are about 340 units wide, what a phone shows at its own size, so that letters are legible
there; a wide page sets several beside each other. Colours are classes of ``page.css``, light and
dark; every model has a mark and a dash of its own besides, so that no colour is needed. Not
covered: what a picture shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.app.page.document import text_of
from lmstack.app.page.evaluation.axes import Axis
from lmstack.app.page.evaluation.labels import width_of

__all__ = [
    "SIZE",
    "WIDE",
    "horizontal_axis",
    "legend",
    "line",
    "mark",
    "picture",
    "place",
    "series_class",
    "text",
    "vertical_axis",
]

WIDE = 340.0
SIZE = 12.0  # of letters
_COLOURS, _SHAPES, _DASHES = 6, 5, 4


def place(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def text(
    x: float, y: float, words: str, anchor: str = "start", kind: str = "", whole: str = ""
) -> str:
    """``words`` on the baseline ``y``. ``whole``: what they were shortened from, shown on hover."""
    tip = f"<title>{text_of(whole)}</title>" if whole and whole != words else ""
    style = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{place(x)}" y="{place(y)}" text-anchor="{anchor}"{style}>'
        f"{text_of(words)}{tip}</text>"
    )


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    ends = f'x1="{place(x1)}" y1="{place(y1)}" x2="{place(x2)}" y2="{place(y2)}"'
    return f'<line class="{kind}" {ends}/>'


def series_class(number: int) -> str:
    """Of the ``number``-th model, from 0: its colour and its dash."""
    return f"s{number % _COLOURS} d{number % _DASHES}"


def mark(x: float, y: float, number: int, kind: str | None = None, tip: str = "") -> str:
    """The mark of the ``number``-th model: a circle, square, triangle, diamond or cross."""
    shape = number % _SHAPES
    style = f"mark {kind or series_class(number)}"
    title = f"<title>{text_of(tip)}</title>" if tip else ""
    if shape == 0:
        return f'<circle class="{style}" cx="{place(x)}" cy="{place(y)}" r="4">{title}</circle>'
    points = {
        1: ((-3.7, -3.7), (3.7, -3.7), (3.7, 3.7), (-3.7, 3.7)),
        2: ((0, -4.8), (4.6, 3.6), (-4.6, 3.6)),
        3: ((0, -5.2), (5.2, 0), (0, 5.2), (-5.2, 0)),
        4: ((-5, -1.5), (-1.5, -1.5), (-1.5, -5), (1.5, -5), (1.5, -1.5), (5, -1.5), (5, 1.5),
            (1.5, 1.5), (1.5, 5), (-1.5, 5), (-1.5, 1.5), (-5, 1.5)),
    }[shape]  # fmt: skip
    path = " ".join(f"{place(x + dx)},{place(y + dy)}" for dx, dy in points)
    return f'<polygon class="{style}" points="{path}">{title}</polygon>'


def horizontal_axis(axis: Axis, top: float, bottom: float, name: str = "") -> str:
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
    return "".join(parts)


def vertical_axis(axis: Axis, left: float, right: float) -> str:
    """Quiet lines from ``left`` to ``right`` at round values, the values on the left."""
    parts = []
    for tick in axis.ticks:
        y = axis(tick)
        parts.append(line(left, y, right, y, "grid"))
        parts.append(text(left - 5, y + 4, axis.text(tick), "end", "tick"))
    return "".join(parts)


def legend(names: Sequence[str], numbers: Sequence[int] = ()) -> str:
    """HTML: the mark, the dash and the name of each model. ``numbers``: of the models; as they
    come, where none are given."""
    items = "".join(
        f'<li><svg class="key" viewBox="0 0 30 14" width="30" height="14" aria-hidden="true">'
        f"{line(1, 7, 29, 7, f'curve {series_class(number)}')}{mark(15, 7, number)}</svg>"
        f"<span>{text_of(name)}</span></li>"
        for number, name in zip(numbers or range(len(names)), names, strict=True)
    )
    return f'<ul class="legend" aria-label="Models">{items}</ul>\n'


def picture(title: str, about: str, tall: float, inside: str, wide: float = WIDE) -> str:
    """``title``: a short name. ``about``: what is to be seen, with its numbers, for who cannot see
    it."""
    return (
        f'<svg class="picture" role="img" viewBox="0 0 {place(wide)} {place(tall)}">'
        f"<title>{text_of(title)}</title><desc>{text_of(about)}</desc>{inside}</svg>\n"
    )
