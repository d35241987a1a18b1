"""The picture of latency against load: what people wait for as a server gets busier.

Four panels over the same loads: time to first token, times between pieces, whole answers, and the
tokens that all get together. Does not cover measuring.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lmstack.app.drawing import ACCENT, GRID, INK, QUIET, Sheet
from lmstack.app.loadgen.summary import SLOW_GAP_S, Spread, Summary

__all__ = ["draw_load"]

MARGIN, TOP = 0.75, 1.0  # inches
WIDE, TALL, BESIDE, BELOW = 3.9, 2.3, 0.85, 0.8
# From calm to worst; the last is what is promised to users, so it stands out.
CURVES = (("p50", "#9ecae1"), ("p95", "#3182bd"), ("p99", ACCENT))


def draw_load(path: Path, title: str, summaries: Sequence[Summary]) -> None:
    """``summaries``: one for each load, which are all of one kind."""
    summaries = sorted(summaries, key=lambda found: found.level.load)
    sheet = Sheet(2 * MARGIN + 2 * WIDE + BESIDE, TOP + 2 * (TALL + BELOW) - 0.1)
    sheet.text(MARGIN / 2, 0.25, title, fontsize=13, fontweight="bold")
    note = "Median, 95th and 99th percentile of answers that ended well, by load."
    sheet.text(MARGIN / 2, 0.53, note, fontsize=9, color=QUIET)
    panels: tuple[tuple[str, Callable[[Summary], Spread | None]], ...] = (
        ("Time to first token, ms", lambda s: s.first_token),
        ("Between two pieces of text, ms", lambda s: s.between),
        ("Whole answer, ms", lambda s: s.answer),
    )
    rated = summaries[0].level.rate is not None
    load = "requests arriving a second" if rated else "requests at once"
    for number, (name, spread) in enumerate(panels):
        axes = _panel(sheet, number, name, load if number > 1 else "")
        _curves(sheet, axes, summaries, spread)
        if number == 1:
            _line(sheet, axes, 1000 * SLOW_GAP_S)
    axes = _panel(sheet, 3, "Output of all together, tokens/s", load)
    loads = [s.level.load for s in summaries]
    axes.plot(loads, [s.tokens_per_s for s in summaries], "o-", color=INK, markersize=4)
    _from_zero(axes, loads)
    sheet.write(path)


def _panel(sheet: Sheet, number: int, title: str, below: str) -> Any:
    row, column = divmod(number, 2)
    left, top = MARGIN + column * (WIDE + BESIDE), TOP + row * (TALL + BELOW)
    axes = sheet.axes(left, top, WIDE, TALL)
    axes.set_title(title, loc="left", fontsize=10, color=INK, **sheet.font)
    axes.set_xlabel(below, fontsize=9, color=QUIET, **sheet.font)
    axes.grid(color=GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=8, labelcolor=QUIET)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)
    return axes


def _curves(
    sheet: Sheet, axes: Any, summaries: Sequence[Summary], spread: Callable[[Summary], Any]
) -> None:
    found = [(s.level.load, spread(s)) for s in summaries]
    told = [(load, values) for load, values in found if values is not None]
    for name, colour in CURVES:
        axes.plot(
            [load for load, _ in told],
            [1000 * getattr(values, name) for _, values in told],
            "o-",
            color=colour,
            markersize=4,
            label=name,
        )
    _from_zero(axes, [load for load, _ in found])
    axes.legend(
        loc="upper left", frameon=False, prop={"size": 8, "family": sheet.font["family"]}, ncols=3
    )
    # Room for the names of the curves above them.
    axes.set_ylim(0, 1.22 * axes.get_ylim()[1])


def _from_zero(axes: Any, loads: Sequence[float]) -> None:
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 1.05 * max(loads))


def _line(sheet: Sheet, axes: Any, height: float) -> None:
    """Where a reader begins to notice, if the panel reaches so high."""
    if axes.get_ylim()[1] > height:
        axes.axhline(height, color=QUIET, linewidth=0.8, linestyle=(0, (4, 3)))
        style = {"fontsize": 8, "color": QUIET, "va": "bottom", "ha": "right"}
        axes.text(axes.get_xlim()[1], height, f"{height:.0f} ms", **style, **sheet.font)
