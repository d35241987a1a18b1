"""One HTML page that shows a comparison: self-contained, no script, no request.

Covers what it concludes, every figure with its interval, the charts, what was looked at for
reward hacking, and the answers that changed most, in light and dark. Does not cover computing
anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lmstack.app.comparison.pictures import calibration_curves, histograms, interval_line
from lmstack.app.report.pages import self_contained
from lmstack.evals.comparison import change_of, conclusions, value_of

if TYPE_CHECKING:
    from lmstack.app.comparison.report import Report
    from lmstack.app.report.charts.shapes import Chart
    from lmstack.evals.comparison import Comparison

__all__ = ["report_page"]

_WHY = {
    "gained": "gained {:+.3g} reward",
    "lost": "lost {:+.3g} reward",
    "changed": "changed most, by {:.3g}",
}


def report_page(report: Report) -> str:
    """The page."""
    found = report.comparison
    return self_contained(
        "comparison/templates/page.html",
        styles=("report/page.css", "report/charts.css", "comparison/page.css"),
        report=report,
        conclusions=conclusions(found),
        figures=list(_figures(found)),
        charts=list(_charts(found)),
        why=_WHY,
    )


def _figures(
    found: Comparison,
) -> Iterator[tuple[str, str, str, str, float | None, Chart | None]]:
    """Name, base, tuned, change with its interval, p, and the interval as a chart."""
    for figure in found.figures:
        sides = value_of(figure, figure.base), value_of(figure, figure.tuned)
        drawn = interval_line(figure.difference)
        yield figure.title, *sides, change_of(figure), figure.difference.p, drawn
    for by, wins in found.wins.items():
        share, interval = f"{wins.value:.1%}", wins.between(".1%")
        yield f"Win rate by the {by}", "", share, interval, wins.p, None
    if found.flips is not None:
        yield "Verdicts that differ with the order", "", f"{found.flips:.1%}", "", None, None
    for unit, each in found.divergence.items():
        name = f"KL to the base, nats a{'n' if unit == 'answer' else ''} {unit}"
        yield name, "", f"{each.value:.3f}", each.between(".3f"), None, None


def _charts(found: Comparison) -> Iterator[tuple[Chart, str]]:
    yield histograms(*found.lengths, "tokens"), "Length of answers"
    if found.rewards is not None:
        yield histograms(*found.rewards, "reward"), "Reward of answers"
    if found.bins is not None:
        yield calibration_curves(*found.bins), "Calibration on held-out text"
