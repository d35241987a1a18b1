"""What `lmstack index report` prints and draws of the chunks of an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lmstack.app.drawing import ACCENT, GRID, INK, QUIET, Sheet
from lmstack.app.formats import columns

if TYPE_CHECKING:
    from lmstack.rag.catalogue.report import ChunkReport, Spread

__all__ = ["draw_report", "report_lines"]

MARGIN, TOP = 0.6, 1.1  # inches
PLOT = (4.4, 2.6)
BLUE = "#0072b2"


def report_lines(report: ChunkReport) -> list[str]:
    """The report as people read it."""
    lines = columns(
        [
            ("", "least", "10 %", "median", "90 %", "most", "mean"),
            ("tokens", *_spread(report.tokens)),
            ("characters", *_spread(report.characters)),
        ]
    )
    checked = "counted again" if report.recounted else "as stored"
    rows = [
        ("passages", f"{report.chunks} of {report.documents} documents"),
        ("cut by the embedder", f"{report.truncated} (limit {report.limit} tokens, {checked})"),
        ("under no heading", str(report.orphans)),
        ("under 10 tokens", str(report.tiny)),
        ("repeats of another", str(report.duplicates)),
        ("prefixes", f"{100 * report.prefix_share:.0f} % of what is embedded"),
    ]
    if report.wrong_counts:
        rows.append(("counted wrongly", f"{report.wrong_counts}: lmstack index update --rebuild"))
    heads = ("format", "documents", "passages", "no heading", "tiny", "median tokens")
    table = [
        (
            f.format,
            *map(str, (f.documents, f.chunks, f.orphans, f.tiny, f.tokens.median)),
        )
        for f in report.formats
    ]
    return [*columns(rows), "", *lines, "", *columns([heads, *table])]


def _spread(spread: Spread) -> tuple[str, ...]:
    whole = (spread.least, spread.tenth, spread.median, spread.ninetieth, spread.most)
    return (*map(str, whole), f"{spread.mean:.1f}")


def draw_report(path: Path, title: str, report: ChunkReport) -> None:
    """Two histograms: tokens with the embedder's limit, and characters."""
    width = 2 * PLOT[0] + 3 * MARGIN
    sheet = Sheet(width, TOP + PLOT[1] + MARGIN + 0.1)
    sheet.text(MARGIN, 0.25, title, fontsize=13, fontweight="bold")
    note = (
        f"{report.chunks} passages of {report.documents} documents; {report.truncated} cut by the"
        f" embedder, {report.tiny} under 10 tokens, {report.duplicates} repeated"
    )
    sheet.text(MARGIN, 0.55, note, fontsize=9, color=QUIET)
    tokens = np.array([t for t, _ in report.sizes])
    characters = np.array([c for _, c in report.sizes])
    _histogram(sheet, MARGIN, tokens, "tokens of a passage, prefix included", report.limit)
    _histogram(sheet, 2 * MARGIN + PLOT[0], characters, "characters of its text", None)
    sheet.write(path)


def _histogram(
    sheet: Sheet, left: float, values: np.ndarray, label: str, limit: int | None
) -> None:
    axes = sheet.axes(left, TOP, *PLOT)
    axes.hist(values, bins=40, color=BLUE)
    style = {"fontsize": 8, **sheet.font}
    if limit is not None:
        axes.axvline(limit, color=ACCENT, linewidth=1.5)
        axes.text(limit, axes.get_ylim()[1], " limit", color=ACCENT, va="top", **style)
    axes.set_xlabel(label, color=INK, **style)
    axes.set_ylabel("passages", color=INK, **style)
    axes.set_xlim(left=0)
    axes.tick_params(labelsize=8, colors=QUIET)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRID)
