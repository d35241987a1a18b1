"""The picture of how long the examples of a run are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lmstack.app.report.drawing import ACCENT, BARS, QUIET, Sheet

if TYPE_CHECKING:
    from lmstack.train.data.report import Lengths

__all__ = ["draw_lengths"]

WIDE, TALL = 6.4, 3.4  # inches of the axes
LEFT, TOP, RIGHT, BELOW = 0.9, 0.7, 0.5, 0.7


def draw_lengths(path: Path, lengths: Lengths, max_length: int) -> None:
    """Bars of examples by tokens, with the median and the longest that is read."""
    sheet = Sheet(LEFT + WIDE + RIGHT, TOP + TALL + BELOW)
    total, median = sum(lengths.bars), lengths.quantiles["50%"]
    sheet.text(LEFT, 0.2, f"{total:,} examples, half of up to {median:,} tokens", fontsize=12)
    axes = sheet.panel(LEFT, TOP, WIDE, TALL, below="tokens", beside="examples")
    axes.stairs(lengths.bars, lengths.edges, fill=True, color=BARS)
    axes.axvline(median, color=ACCENT, linewidth=1)
    if max_length <= lengths.most:
        axes.axvline(max_length, color=QUIET, linewidth=1, linestyle="--")
    axes.set_xlim(0, None)
    sheet.write(path)
