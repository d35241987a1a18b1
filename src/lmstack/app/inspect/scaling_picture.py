"""The picture of a fitted scaling law: runs, the law for each of their sizes, and the best loss for
a given compute, with the interval of the bootstrap."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lmstack.app.formats import quantity
from lmstack.app.report.drawing import ACCENT, GRID, QUIET, SHADES, Sheet, drawing_part
from lmstack.pipelines.scaling.fit import Fit, Floats
from lmstack.pipelines.scaling.laws import LossLaw
from lmstack.pipelines.scaling.runs import RunEnd

__all__ = ["draw_law"]

WIDE, TALL = 6.4, 4.4  # inches of the axes
LEFT, TOP, RIGHT, BELOW = 1.0, 0.7, 1.5, 0.7
REACH = 30.0  # how far beyond the runs' compute the curves go, as a factor
POINTS = 80


def draw_law(path: Path, runs: Sequence[RunEnd], fit: Fit) -> None:
    """Loss against 6 N D, both logarithmic."""
    sheet = Sheet(LEFT + WIDE + RIGHT, TOP + TALL + BELOW)
    sheet.text(LEFT, 0.2, f"L = E + A / N^α + B / D^β, {len(runs)} runs", fontsize=12)
    axes = sheet.panel(
        LEFT, TOP, WIDE, TALL, below="compute 6 N D, operations", beside="loss, nats a token"
    )
    compute = np.array([6 * run.size * run.data for run in runs])
    reached = np.geomspace(compute.min(), compute.max() * REACH, POINTS)
    _draw_frontier(axes, reached, fit)
    sizes = sorted({run.size for run in runs})
    colours = drawing_part("cm").ScalarMappable(cmap=SHADES)
    colours.set_clim(-0.5 * len(sizes), len(sizes))
    for place, size in enumerate(sizes):
        colour = colours.to_rgba(place)
        mine = [run for run in runs if run.size == size]
        spent = [6 * size * run.data for run in mine]
        axes.plot(spent, [run.loss for run in mine], "o", color=colour, markersize=5, zorder=3)
        along = np.geomspace(min(spent) / 2, max(spent) * 2, POINTS)
        curve = [fit.law.loss(size, c / (6 * size)) for c in along]
        axes.plot(along, curve, color=colour, linewidth=1.2, label=f"N = {quantity(size)}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.grid(True, which="both", color=GRID, linewidth=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
    sheet.write(path)


def _draw_frontier(axes: Any, compute: Floats, fit: Fit) -> None:
    def frontier(law: LossLaw) -> list[float]:
        found = []
        for spent in compute:
            size = law.size_coefficient * spent**law.size_exponent
            found.append(law.loss(size, spent / (6 * size)))
        return found

    low, high = np.quantile(
        [frontier(law) for law in fit.samples], [(1 - fit.level) / 2, (1 + fit.level) / 2], axis=0
    )
    axes.fill_between(compute, low, high, color=ACCENT, alpha=0.2, linewidth=0)
    label = f"best use, {fit.level:.0%}"
    axes.plot(compute, frontier(fit.law), color=ACCENT, linewidth=1.6, label=label)
    axes.axhline(fit.law.E, color=QUIET, linewidth=0.8, linestyle="--", label="E")
