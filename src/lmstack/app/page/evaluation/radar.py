"""A radar of a suite: one axis a task, from nought at the centre to the whole at the rim.

It shows a profile at a glance and misleads in the rest: the area depends on the order of the axes,
and intervals cannot be drawn. So it is only ever shown beside a plot with intervals. Only shares of
which more is better have a common scale; others are left out. Up to `_NAMED` axes bear names, more
bear the numbers of the plot beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from lmstack.app.page.evaluation.report import percent
from lmstack.app.report.charts.labels import wrapped
from lmstack.app.report.charts.shapes import (
    SIZE,
    WIDE,
    Chart,
    Shape,
    line,
    mark,
    path,
    series_class,
    text,
)

__all__ = ["LEAST_AXES", "point_of", "radar"]

LEAST_AXES = 3
_NAMED = 6
_TALL, _MIDDLE, _RADIUS = 288.0, (WIDE / 2, 146.0), 92.0
_RINGS = (0.25, 0.5, 0.75, 1.0)
_ROOM = 76.0  # of a name, at the sides


def point_of(axis: int, axes: int, share: float) -> tuple[float, float]:
    """The place of ``share`` on an axis; the first points up, the others follow clockwise."""
    angle = 2 * math.pi * axis / axes
    x, y = _MIDDLE
    return x + _RADIUS * share * math.sin(angle), y - _RADIUS * share * math.cos(angle)


def radar(
    tasks: Sequence[str],
    models: Sequence[tuple[int, str, Sequence[float | None]]],
    numbers: Sequence[int] = (),
) -> Chart:
    """``models``: number, name and a share a task, None where it was not measured. ``numbers``: of
    the tasks, for axes that have no room for names. At least `LEAST_AXES` tasks."""
    axes = len(tasks)
    parts = [_ring(axes, share) for share in _RINGS]
    parts += [line(*_MIDDLE, *point_of(axis, axes, 1.0), "grid") for axis in range(axes)]
    for share in (0.5, 1.0):
        x, y = _MIDDLE
        parts.append(text(x + 3, y - _RADIUS * share + 11, percent(share, 0), kind="tick"))
    parts += [shape for number, _, shares in models for shape in _outline(number, shares)]
    for axis, name in enumerate(tasks):
        shown = name if axes <= _NAMED else str(numbers[axis] if numbers else axis + 1)
        parts += _name(axis, axes, shown, name)
    said = "; ".join(f"{name}: {_listed(tasks, shares)}" for _, name, shares in models)
    return Chart("Radar of the suite", said, _TALL, parts)


def _listed(tasks: Sequence[str], shares: Sequence[float | None]) -> str:
    return ", ".join(
        f"{task} {'not measured' if share is None else percent(share)}"
        for task, share in zip(tasks, shares, strict=True)
    )


def _ring(axes: int, share: float) -> Shape:
    points = path(point_of(axis, axes, share) for axis in range(axes))
    return Shape("polygon", {"class": "grid ring", "points": points})


def _outline(number: int, shares: Sequence[float | None]) -> list[Shape]:
    """The outline through what was measured, open where something was not."""
    axes = len(shares)
    points = [None if s is None else point_of(a, axes, s) for a, s in enumerate(shares)]
    parts = []
    for axis, point in enumerate(points):
        after = points[(axis + 1) % axes]
        if point is not None and after is not None:
            parts.append(line(*point, *after, f"curve {series_class(number)}"))
    parts += [mark(*point, number) for point in points if point is not None]
    return parts


def _name(axis: int, axes: int, shown: str, whole: str) -> list[Shape]:
    angle = 2 * math.pi * axis / axes
    x, y = point_of(axis, axes, 1.0 + 12 / _RADIUS)
    side = math.sin(angle)
    anchor = "middle" if abs(side) < 0.2 else "start" if side > 0 else "end"
    room = 2.2 * _ROOM if anchor == "middle" else _ROOM
    rows = wrapped(shown, room, SIZE, 3 if anchor != "middle" else 2)
    step = SIZE + 1
    # Above the rim names grow upwards, below it downwards, at the sides about the middle.
    first = y + 4 - step * (len(rows) - 1) * (1 + math.cos(angle)) / 2
    if anchor == "middle":
        first = y - step * (len(rows) - 1) if math.cos(angle) > 0 else y + 9
    tip = whole if len(rows) > 1 or shown != whole or rows[-1] != whole else ""
    return [
        text(x, first + number * step, row, anchor, whole=tip if not number else "")
        for number, row in enumerate(rows)
    ]
