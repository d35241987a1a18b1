"""The picture of what a model expects: a row for each token, with its likeliest successors.

Covers shades for probabilities, a frame around the token that the text goes on with, and beside
each row the entropy of the distribution and the surprise of what came. Does not cover computing
them (``looking``).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmstack.app.inspect.looking import Expectation, TokenCandidate
from lmstack.app.report.drawing import (
    ACCENT,
    GRID,
    INK,
    QUIET,
    SHADES,
    Sheet,
    drawing_part,
    without_frame,
)

__all__ = ["draw_expectations"]

MARGIN, TOP, ROW = 0.5, 0.75, 0.27  # inches
CELL, BARS = 1.45, 3.2  # width of a candidate, and of the bars
LABEL, NAME = 11, 18  # characters of a candidate, and of the token of a row


def draw_expectations(
    path: Path, title: str, found: Sequence[Expectation], *, in_place: bool
) -> None:
    """``in_place``: the distributions are of masked tokens, not of next ones."""
    count = max(len(expectation.top) for expectation in found)
    names = [sheet_name(expectation) for expectation in found]
    beside = 0.55 + 0.085 * max(len(name) for name in names)
    tall = ROW * len(found)
    wide = CELL * (count + 1)
    sheet = Sheet(
        max(MARGIN + beside + wide + 0.3 + BARS + MARGIN, 8.0), MARGIN + TOP + tall + 0.55 + MARGIN
    )
    sheet.text(MARGIN, MARGIN / 2, title, fontsize=13, fontweight="bold")
    note = (
        "Each row: what the model puts in place of the token when it is masked. Framed: the token"
        if in_place
        else "Each row: what the model expects after the text up to this token. Framed: what comes"
    )
    note += " in the text; the last column says how likely it was."
    sheet.text(MARGIN, MARGIN / 2 + 0.28, note, fontsize=9, color=QUIET)
    top = MARGIN + TOP
    _draw_table(sheet, (MARGIN + beside, top, wide, tall), found, names, count)
    _draw_bars(sheet, (MARGIN + beside + wide + 0.3, top, BARS, tall), found)
    sheet.write(path)


def sheet_name(expectation: Expectation) -> str:
    """The token of a row, cut to what fits."""
    text = expectation.text
    return text if len(text) <= NAME else text[: NAME - 1] + "…"


def _draw_table(
    sheet: Sheet,
    place: tuple[float, float, float, float],
    found: Sequence[Expectation],
    names: Sequence[str],
    count: int,
) -> None:
    axes = sheet.axes(*place)
    axes.set_xlim(0, count + 1)
    axes.set_ylim(len(found), 0)
    without_frame(axes)
    style = {"fontsize": 8, **sheet.font}
    axes.set_yticks(
        [row + 0.5 for row in range(len(found))],
        [sheet.drawable(name) for name in names],
        color=INK,
        **style,
    )
    heads = [f"{rank}" for rank in range(1, count + 1)] + ["in the text"]
    axes.set_xticks([n + 0.5 for n in range(count + 1)], heads, color=QUIET, **style)
    axes.xaxis.tick_top()
    axes.tick_params(pad=4)
    for row, expectation in enumerate(found):
        for column, candidate in enumerate(expectation.top):
            is_actual = expectation.actual is not None and candidate.id == expectation.actual.id
            _draw_cell(sheet, axes, (column, row), candidate, is_actual)
        if expectation.actual is not None:
            _write_actual(sheet, axes, count, row, expectation.actual)


def _draw_cell(
    sheet: Sheet, axes: Any, place: tuple[int, int], candidate: TokenCandidate, is_actual: bool
) -> None:
    column, row = place
    shade = candidate.probability**0.5
    box = drawing_part("patches").Rectangle(
        (column + 0.02, row + 0.08),
        0.96,
        0.84,
        facecolor=drawing_part("").colormaps[SHADES](0.9 * shade),
        edgecolor=ACCENT if is_actual else "none",
        linewidth=1.8 if is_actual else 0,
    )
    axes.add_patch(box)
    colour = "white" if shade > 0.75 else INK
    style = {"fontsize": 8, "va": "center", "color": colour, **sheet.font}
    text = sheet.drawable(candidate.text, LABEL)
    axes.text(column + 0.06, row + 0.52, text, **style)
    axes.text(column + 0.94, row + 0.52, percent(candidate.probability), ha="right", **style)


def _write_actual(sheet: Sheet, axes: Any, column: int, row: int, actual: TokenCandidate) -> None:
    style = {"fontsize": 8, "va": "center", "color": INK, **sheet.font}
    axes.text(column + 0.06, row + 0.52, sheet.drawable(actual.text, LABEL), **style)
    axes.text(column + 0.98, row + 0.52, percent(actual.probability), ha="right", **style)


def percent(probability: float) -> str:
    """Two figures for what is likely, and "<0.1 %" for what is not."""
    value = 100 * probability
    if value >= 9.95:
        return f"{value:.0f} %"
    return f"{value:.1f} %" if value >= 0.095 else "<0.1 %"


def _draw_bars(
    sheet: Sheet, place: tuple[float, float, float, float], found: Sequence[Expectation]
) -> None:
    """Entropy as bars, surprise as dots, both in bits."""
    axes = sheet.axes(*place)
    axes.set_ylim(len(found), 0)
    without_frame(axes)
    axes.set_yticks([])
    rows = [row + 0.5 for row in range(len(found))]
    axes.barh(rows, [e.entropy for e in found], height=0.6, color="#9ecae1", zorder=2)
    surprises = [(e.surprise, row) for e, row in zip(found, rows, strict=True)]
    known = [(value, row) for value, row in surprises if value is not None]
    axes.scatter([v for v, _ in known], [r for _, r in known], s=22, color=ACCENT, zorder=3)
    widest = max([e.entropy for e in found] + [value for value, _ in known])
    axes.set_xlim(0, max(1.0, 1.05 * widest))
    axes.xaxis.tick_top()
    axes.tick_params(pad=4, labelsize=8, labelcolor=QUIET)
    axes.grid(axis="x", color=GRID, linewidth=0.5, zorder=0)
    left, top, _, height = place
    keys = (("■", "#6baed6", "entropy of the distribution"), ("●", ACCENT, "surprise of the token"))
    for row, (sign, colour, name) in enumerate(keys):
        y = top + height + 0.12 + 0.2 * row
        sheet.text(left, y, sign, fontsize=9, color=colour)
        sheet.text(
            left + 0.2, y, f"{name} that is there, bits" if row else f"{name}, bits", fontsize=9
        )
