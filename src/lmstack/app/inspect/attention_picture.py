"""The picture of attention: every head of every layer at a glance, and one head large.

Covers encoders, decoders and encoder-decoders (three grids, and the cross-attention large).
Darker is more; what a token may not look at is grey. Shades follow the square root of the
weight, so that weights of a few hundredths still show. Does not cover computing the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.app.inspect.looking import AttentionWeights
from lmstack.app.report.drawing import (
    ACCENT,
    INK,
    MASKED,
    QUIET,
    SHADES,
    Sheet,
    drawing_part,
    without_frame,
)

__all__ = ["draw_attention", "draw_head"]

Array = npt.NDArray[np.float32]

MARGIN = 0.5
LARGE = 4.2  # inches that a large head would like to have
SMALLEST, WIDEST = 0.19, 0.45  # inches of a token in it
LABEL = 14  # characters of a token's name
PANEL, MOST_WIDE = 0.62, 20.0  # inches of a head in a grid, and of a grid
NUMBERS_UP_TO = 16  # tokens, up to which weights are written into the cells
TITLES = {
    "encoder": "Encoder over itself",
    "decoder": "Decoder over itself",
    "cross": "Decoder over encoder",
}
BESIDE, ABOVE = 0.6, 0.55  # inches for the numbers of a grid


def draw_attention(
    path: Path,
    title: str,
    parts: Sequence[AttentionWeights],
    large: AttentionWeights,
    layer: int,
    head: int,
) -> None:
    """Grids of all ``parts``, and below them one head of ``large``, framed in its grid."""
    rows = _rows_of_grids([(part, *_grid_size(part)) for part in parts])
    wide, tall = _head_size(large)
    width = max(wide, *(sum(w + MARGIN for _, w, _ in row) for row in rows)) + 2 * MARGIN
    heights = [ABOVE + max(h for *_, h in row) + MARGIN for row in rows]
    sheet = Sheet(max(width, 7.0), MARGIN + 0.5 + sum(heights) + tall + MARGIN)
    _draw_title(sheet, title)
    top = MARGIN + 0.5
    for row, height in zip(rows, heights, strict=True):
        left = MARGIN
        for part, grid_width, grid_height in row:
            framed = (layer, head) if part is large else None
            _draw_grid(sheet, (left, top, grid_width, grid_height), part, framed)
            left += grid_width + MARGIN
        top += height
    _draw_large(sheet, top, large, layer, head)
    sheet.write(path)


def _rows_of_grids(
    grids: Sequence[tuple[AttentionWeights, float, float]],
) -> list[list[tuple[AttentionWeights, float, float]]]:
    """Side by side as long as the sheet is wide enough."""
    rows: list[list[tuple[AttentionWeights, float, float]]] = [[]]
    for grid in grids:
        if rows[-1] and sum(w + MARGIN for _, w, _ in [*rows[-1], grid]) > MOST_WIDE:
            rows.append([])
        rows[-1].append(grid)
    return rows


def _draw_title(sheet: Sheet, title: str) -> None:
    sheet.text(MARGIN, MARGIN / 2, title, fontsize=13, fontweight="bold")
    note = "Each row is a token; the darker a column, the more it takes from that token."
    sheet.text(MARGIN, MARGIN / 2 + 0.28, note, fontsize=9, color=QUIET)


def draw_head(path: Path, title: str, attention: AttentionWeights, layer: int, head: int) -> None:
    """One head, as large as its tokens need."""
    wide, tall = _head_size(attention)
    sheet = Sheet(max(wide + 2 * MARGIN, 7.0), tall + 2 * MARGIN + 0.5)
    _draw_title(sheet, title)
    _draw_large(sheet, MARGIN + 0.5, attention, layer, head)
    sheet.write(path)


def _turned(attention: AttentionWeights) -> bool:
    """Layers go across where there are many more of them than heads."""
    layers, heads = attention.weights.shape[:2]
    return bool(layers > 1.5 * heads)


def _grid_size(attention: AttentionWeights) -> tuple[float, float]:
    """Inches of a grid: every panel as large as the widest sheet allows."""
    layers, heads, count, keys = attention.weights.shape
    across, down = (layers, heads) if _turned(attention) else (heads, layers)
    side = max(0.3, min(max(PANEL, 0.9 if across <= 12 else 0), (MOST_WIDE - 1) / across))
    ratio = min(3.0, max(1 / 3, count / keys))
    return across * side + BESIDE, down * side * ratio


def _draw_grid(
    sheet: Sheet,
    place: tuple[float, float, float, float],
    attention: AttentionWeights,
    framed: tuple[int, int] | None,
) -> None:
    """``place``: left, top, width and height of the grid with its numbers."""
    left, top, width, height = place
    sheet.text(left, top, TITLES[attention.part], fontsize=10, fontweight="bold")
    axes = sheet.axes(left + BESIDE, top + ABOVE, width - BESIDE, height)
    weights = _visible(attention)
    turned = _turned(attention)
    if turned:
        weights = weights.swapaxes(0, 1)
    image, pitch_down, pitch_across = _mosaic(weights)
    _show(axes, image)
    down, across, count, keys = weights.shape
    centres = [n * pitch_across + (keys - 1) / 2 for n in range(across)]
    middles = [n * pitch_down + (count - 1) / 2 for n in range(down)]
    style = {"fontsize": 7, "color": QUIET, **sheet.font}
    axes.set_xticks(centres, [str(n) for n in range(across)], **style)
    axes.set_yticks(middles, [str(n) for n in range(down)], **style)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=2)
    names = ("head", "layer")
    axes.set_xlabel(names[turned], fontsize=9, color=INK, labelpad=3, **sheet.font)
    axes.xaxis.set_label_position("top")
    axes.set_ylabel(names[not turned], fontsize=9, color=INK, **sheet.font)
    if framed is not None:
        row, column = (framed[1], framed[0]) if turned else framed
        corner = (column * pitch_across - 1, row * pitch_down - 1)
        _frame(axes, corner, keys + 1, count + 1)


def _draw_large(
    sheet: Sheet, top: float, attention: AttentionWeights, layer: int, head: int
) -> None:
    """One head with the names of its tokens, keys above and queries to the left."""
    weights = _visible(attention)[layer, head]
    count, keys = weights.shape
    queries = [sheet.drawable(name, LABEL) for name in attention.queries]
    looked_at = [sheet.drawable(name, LABEL) for name in attention.keys]
    beside, above = _room(queries), _room(looked_at)
    sheet.text(
        MARGIN,
        top,
        f"Layer {layer}, head {head} ({attention.part}): {_summary(attention, layer, head)}",
        fontweight="bold",
    )
    cell = _cell(attention)
    axes = sheet.axes(MARGIN + beside, top + 0.45 + above, keys * cell, count * cell)
    _show(axes, weights)
    style = {"fontsize": 8, "color": INK, **sheet.font}
    axes.set_xticks(range(keys), looked_at, rotation=90, **style)
    axes.set_yticks(range(count), queries, **style)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, pad=3)
    axes.set_xticks(np.arange(-0.5, keys), minor=True)
    axes.set_yticks(np.arange(-0.5, count), minor=True)
    axes.grid(which="minor", color="white", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    if max(count, keys) <= NUMBERS_UP_TO:
        _write_numbers(axes, weights)
    scale = sheet.axes(MARGIN + beside, top + 0.45 + above + count * cell + 0.2, 1.8, 0.1)
    _draw_scale(sheet, scale)


def _head_size(attention: AttentionWeights) -> tuple[float, float]:
    """Inches, with the names of tokens and the scale."""
    count, keys = attention.weights.shape[2:]
    beside, above = _room(attention.queries), _room(attention.keys)
    cell = _cell(attention)
    return beside + keys * cell + 0.3, 0.45 + above + count * cell + 0.6


def _cell(attention: AttentionWeights) -> float:
    longest = max(len(attention.queries), len(attention.keys))
    return min(WIDEST, max(SMALLEST, LARGE / longest))


def _room(names: Sequence[str]) -> float:
    """Inches for the longest of the names."""
    return 0.2 + 0.078 * min(LABEL + 4, max((len(name) for name in names), default=0))


def _summary(attention: AttentionWeights, layer: int, head: int) -> str:
    weights = attention.weights[layer, head]
    spread = -(weights * np.log2(np.maximum(weights, 1e-12))).sum(axis=-1).mean()
    first = weights[:, 0].mean()
    return f"{100 * first:.0f} % on the first token, spread {spread:.1f} bits on average"


def _visible(attention: AttentionWeights) -> Array:
    """The weights, with NaN where a token may not look."""
    weights = attention.weights.copy()
    if attention.causal:
        count, keys = weights.shape[2:]
        weights[..., np.triu(np.ones((count, keys), bool), 1)] = np.nan
    return weights


def _mosaic(weights: Array) -> tuple[Array, int, int]:
    """Panels (R, C, T, S) in one image with gaps, and the pitch of rows and columns."""
    rows, columns, count, keys = weights.shape
    gap = max(1, round(0.06 * max(count, keys)))
    down, across = count + gap, keys + gap
    image = np.full((rows * down - gap, columns * across - gap), -1.0, np.float32)
    for row in range(rows):
        for column in range(columns):
            top, left = row * down, column * across
            image[top : top + count, left : left + keys] = weights[row, column]
    return image, down, across


def _show(axes: Any, image: Array) -> None:
    """Shades for weights, grey for NaN, white for the gaps (below zero)."""
    axes.imshow(image, cmap=_colours(), norm=_norm(), aspect="auto", interpolation="nearest")
    without_frame(axes)


def _colours() -> Any:
    return drawing_part("").colormaps[SHADES].with_extremes(bad=MASKED, under="white")


def _norm() -> Any:
    return drawing_part("colors").PowerNorm(0.5, 0.0, 1.0)


def _frame(axes: Any, corner: tuple[float, float], width: float, height: float) -> None:
    style = {"fill": False, "edgecolor": ACCENT, "linewidth": 2}
    frame = drawing_part("patches").Rectangle(corner, width, height, **style)
    frame.set_clip_on(False)
    axes.add_patch(frame)


def _write_numbers(axes: Any, weights: Array) -> None:
    for row, column in np.argwhere(weights >= 0.095):
        value = float(weights[row, column])
        colour = "white" if value > 0.3 else INK
        text = f"{100 * value:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)


def _draw_scale(sheet: Sheet, axes: Any) -> None:
    roots = np.linspace(0, 1, 256, dtype=np.float32)[None, :]
    axes.imshow(roots**2, cmap=_colours(), norm=_norm(), aspect="auto", extent=(0, 1, 0, 1))
    axes.set_yticks([])
    style = {"fontsize": 7, "color": QUIET, **sheet.font}
    marks = (0, 0.1, 0.3, 0.6, 1)
    axes.set_xticks([m**0.5 for m in marks], [f"{100 * m:.0f} %" for m in marks], **style)
    axes.tick_params(length=2, pad=2, color=QUIET)
    for spine in axes.spines.values():
        spine.set_color(QUIET)
        spine.set_linewidth(0.5)
