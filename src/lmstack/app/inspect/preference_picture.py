"""The picture of preference data: how lengths tell the chosen answer, and how large margins are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.app.report.drawing import ACCENT, BARS, QUIET, Sheet

if TYPE_CHECKING:
    from lmstack.train.data.length_bias import LengthBias
    from lmstack.train.data.preference_report import PreferenceReport

__all__ = ["draw_preferences"]

WIDE, TALL = 3.9, 2.9  # inches of the axes
LEFT, TOP, BETWEEN, RIGHT, BELOW = 0.8, 0.9, 0.9, 0.4, 0.7


def draw_preferences(path: Path, report: PreferenceReport) -> None:
    """Pairs by the ratio of lengths; how often the longer was chosen, by how much longer it is;
    and margins or a judge's probabilities, where there are any."""
    spreads = [
        (report.margins, "margin"),
        (report.probabilities, "probability that the chosen answer is better"),
    ]
    known = [(spread, label) for spread, label in spreads if spread.count]
    labels = [
        ("characters: chosen over rejected", "pairs"),
        ("longer by this factor at least, a fifth of the pairs each", "the longer was chosen"),
        *((label, "pairs") for _, label in known),
    ]
    sheet = Sheet(LEFT + len(labels) * (WIDE + BETWEEN) - BETWEEN + RIGHT, TOP + TALL + BELOW)
    sheet.text(LEFT, 0.2, _title(report), fontsize=12)
    ratios, shares, *others = [
        sheet.panel(LEFT + n * (WIDE + BETWEEN), TOP, WIDE, TALL, below=below, beside=beside)
        for n, (below, beside) in enumerate(labels)
    ]
    _ratios(ratios, report.length)
    _shares(shares, report.length)
    for axes, (spread, _) in zip(others, known, strict=True):
        axes.stairs(spread.bars, spread.edges, fill=True, color=BARS)
        axes.axvline(spread.median, color=ACCENT, linewidth=1)
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


def _shares(axes: Any, length: LengthBias) -> None:
    places = range(len(length.sizes))
    axes.bar(places, [share for _, _, share in length.sizes], color=BARS, width=0.7)
    axes.axhline(0.5, color=ACCENT, linewidth=1)
    axes.set_xticks(list(places), [f"{least:.2g}" for least, _, _ in length.sizes])
    axes.set_ylim(0, 1)
