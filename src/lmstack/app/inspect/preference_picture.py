"""The picture of preference data: how lengths tell the chosen answer, and how large margins are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.drawing import ACCENT, GRID, QUIET, Sheet

if TYPE_CHECKING:
    from lmstack.train.data.length_bias import LengthBias
    from lmstack.train.data.preference_report import PreferenceReport, Spread

__all__ = ["draw_preferences"]

WIDE, TALL = 3.9, 2.9  # inches of the axes
LEFT, TOP, BETWEEN, RIGHT, BELOW = 0.8, 0.9, 0.9, 0.4, 0.7
BARS = "#4c78a8"


def draw_preferences(path: Path, report: PreferenceReport) -> None:
    """Pairs by the ratio of lengths; how often the longer was chosen, by how much longer it is;
    and margins or a judge's probabilities, where there are any."""
    spreads = [
        (report.margins, "margin"),
        (report.probabilities, "probability that the chosen answer is better"),
    ]
    known = [(spread, label) for spread, label in spreads if spread.count]
    panels = 2 + len(known)
    sheet = Sheet(LEFT + panels * WIDE + (panels - 1) * BETWEEN + RIGHT, TOP + TALL + BELOW)
    sheet.text(LEFT, 0.2, _title(report), fontsize=12)
    axes = [sheet.axes(LEFT + n * (WIDE + BETWEEN), TOP, WIDE, TALL) for n in range(panels)]
    _ratios(axes[0], report.length)
    _shares(axes[1], report.length)
    for axis, (spread, label) in zip(axes[2:], known, strict=True):
        _spread(axis, spread, label)
    for axis in axes:
        axis.grid(True, axis="y", color=GRID, linewidth=0.3)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    sheet.write(path)


def _title(report: PreferenceReport) -> str:
    length = report.length
    return (
        f"{report.kept:,} pairs; the longer answer was chosen in {length.longer:.1%}"
        f" ({length.low:.1%} to {length.high:.1%})"
    )


def _ratios(axes: Any, length: LengthBias) -> None:
    axes.stairs(length.bars, length.edges, fill=True, color=BARS)
    axes.axvline(0, color=QUIET, linewidth=1, linestyle="--")
    axes.set_xticks([-4, -2, 0, 2, 4], ["1/16", "1/4", "1", "4", "16"])
    axes.set_xlabel("characters: chosen over rejected")
    axes.set_ylabel("pairs")


def _shares(axes: Any, length: LengthBias) -> None:
    places = range(len(length.sizes))
    axes.bar(places, [share for _, _, share in length.sizes], color=BARS, width=0.7)
    axes.axhline(0.5, color=ACCENT, linewidth=1)
    axes.set_xticks(list(places), [f"{least:.2g}" for least, _, _ in length.sizes])
    axes.set_ylim(0, 1)
    axes.set_xlabel("longer by this factor at least, a fifth of the pairs each")
    axes.set_ylabel("the longer was chosen")


def _spread(axes: Any, spread: Spread, label: str) -> None:
    axes.stairs(spread.bars, spread.edges, fill=True, color=BARS)
    axes.axvline(spread.median, color=ACCENT, linewidth=1)
    axes.set_xlabel(label)
    axes.set_ylabel("pairs")
