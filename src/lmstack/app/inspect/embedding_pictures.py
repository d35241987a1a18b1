"""The pictures of `lmstack embed`: a heat map of similarities, and texts on a plane."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lmstack.app.drawing import GRID, INK, QUIET, SHADES, Sheet, drawing_part
from lmstack.app.inspect.embeddings import Looked

__all__ = ["METHODS", "draw_map", "draw_matrix"]

METHODS = {"tsne": "t-SNE", "pca": "the two principal axes"}
MARGIN, TOP, LABELS = 0.4, 0.9, 2.4  # inches
NAME = 34
# Okabe and Ito's colours, which every kind of colour vision tells apart, and two greys.
COLOURS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#f0e442"),
    *("#1a1a1a", "#8c8c8c"),
)
_NUMBERS, _NAMED = 14, 40


def draw_matrix(path: Path, looked: Looked) -> None:
    """How alike each text is to each other; numbers in the cells where there is room."""
    assert looked.matrix is not None
    count = len(looked.matrix)
    side = max(3.0, min(0.42 * count, 9.0))
    sheet = Sheet(2 * MARGIN + LABELS + side, TOP + side + MARGIN + 0.3)
    sheet.text(MARGIN, 0.2, f"Similarity ({looked.metric})", fontsize=13, fontweight="bold")
    sheet.text(MARGIN, 0.5, f"{count} texts by {looked.found.model}", fontsize=9, color=QUIET)
    axes = sheet.axes(MARGIN + LABELS, TOP, side, side)
    axes.imshow(looked.matrix, cmap=SHADES, aspect="equal")
    style = {"fontsize": 8 if count <= _NAMED else 5, **sheet.font}
    names = [sheet.drawable(" ".join(label.split()), NAME) for label in looked.found.labels]
    axes.set_yticks(range(count), [f"{n}  {i + 1}" for i, n in enumerate(names)], **style)
    axes.set_xticks(range(count), [str(i + 1) for i in range(count)], **style)
    _plain(axes)
    if count <= _NUMBERS:
        _write_cells(axes, looked.matrix, style)
    sheet.write(path)


def _write_cells(axes: Any, matrix: np.ndarray, style: dict[str, Any]) -> None:
    low, high = float(matrix.min()), float(matrix.max())
    for (row, column), value in np.ndenumerate(matrix):
        dark = value > low + 0.6 * (high - low)
        colour = "white" if dark else INK
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, **style)


def draw_map(path: Path, looked: Looked) -> None:
    """Each text a point; groups in colours, named by their words."""
    assert looked.points is not None
    width, height = 8.0, 6.0
    sheet = Sheet(width + 2 * MARGIN, height + TOP + MARGIN)
    sheet.text(
        MARGIN, 0.2, f"{len(looked.points)} texts by meaning", fontsize=13, fontweight="bold"
    )
    method = METHODS[looked.method]
    note = f"Vectors of {looked.found.model}, on a plane by {method}. Near is alike."
    sheet.text(MARGIN, 0.5, note, fontsize=9, color=QUIET)
    axes = sheet.axes(MARGIN, TOP, width, height)
    _plain(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    groups = looked.clusters.labels if looked.clusters else np.zeros(len(looked.points), int)
    style = {"fontsize": 8, **sheet.font}
    for number in np.unique(groups).tolist():
        points = looked.points[groups == number]
        colour = COLOURS[number % len(COLOURS)]
        words = ", ".join(looked.words[number]) if looked.words else ""
        marker = "os^D"[number // len(COLOURS) % 4]
        axes.scatter(*points.T, s=16, color=colour, marker=marker, label=sheet.drawable(words))
    if len(looked.points) <= _NAMED:
        for label, (x, y) in zip(looked.found.labels, looked.points, strict=True):
            name = sheet.drawable(" ".join(label.split()), NAME)
            axes.annotate(name, (x, y), (4, 3), textcoords="offset points", color=INK, **style)
        axes.margins(0.15)
    if looked.words:
        font = drawing_part("font_manager").FontProperties(family=sheet.font["family"], size=8)
        axes.legend(loc="best", frameon=False, prop=font)
    sheet.write(path)


def _plain(axes: Any) -> None:
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_color(GRID)
