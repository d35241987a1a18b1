"""What the gate decides, as forest plots: each rule's interval and bound.

Rules of one unit share an axis: gains of shares over the baseline, gains in another unit, scores.
"""

from __future__ import annotations

from collections.abc import Callable

from lmstack.app.page.evaluation.intervals import IntervalMark, PlotRow, interval_plot
from lmstack.app.report.charts.shapes import Chart
from lmstack.evals.gate import GateDecision, RuleResult

__all__ = ["forest_plots"]

_KEY = "● passed, ■ broken, ◇ undecided."
# Outcome to the mark (circle, square, diamond) and its class.
_MARKS = {"passed": (0, "passed"), "broken": (1, "broken"), "undecided": (3, "undecided")}


def forest_plots(decision: GateDecision) -> list[tuple[Chart, str]]:
    """A chart with its words for each unit."""
    groups: dict[tuple[str, bool, str], list[RuleResult]] = {}
    for result in decision.results:
        metric = result.comparison.metric
        what = "Score" if result.rule.kind == "at_least" else "Gain over the base"
        unit = "" if metric.is_share else metric.name
        groups.setdefault((what, metric.is_share, unit), []).append(result)
    return [_plot(what, is_share, unit, each) for (what, is_share, unit), each in groups.items()]


def _plot(what: str, is_share: bool, unit: str, results: list[RuleResult]) -> tuple[Chart, str]:
    is_gain = what != "Score"
    sign = "+" if is_gain else ""

    def number(value: float) -> str:
        written = f"{100 * value:{sign}.1f}" if is_share else f"{value:{sign}.3g}"
        return f"{written} %" if is_share and not is_gain else written

    rows = []
    for result in results:
        low, high = result.interval
        shape, kind = _MARKS[result.outcome]
        tip = f"{number(result.value)} ({number(low)} to {number(high)}), {result.outcome}"
        mark = IntervalMark(result.value, low, high, shape, kind, number(result.value), tip)
        # Scores of which less is better are shown as they are, and so is their bound.
        bound = result.rule.bound
        rows.append(PlotRow(f"{result.title}: {_asked(result, number)}", (mark,), bound))
    plot = interval_plot(
        f"{what}, by rule",
        rows,
        is_share=is_share,
        suffix="" if is_gain else " %",
        zero=is_gain,
        number=number,
        whole=None if is_gain or not is_share else (0.0, 1.0),
    )
    level = f"{100 * (1 - 2 * results[0].alpha):.0f} %"
    unit = unit or ("percentage points" if is_gain else "")
    named = f"{what}, {unit}" if unit else what
    return plot, f"{named}: {level} intervals. Dashed: the bound. {_KEY}"


def _asked(result: RuleResult, number: Callable[[float], str]) -> str:
    words = {"non-inferior": "not worse by", "superior": "better by more than"}
    if result.rule.kind == "superior" and not result.rule.bound:
        return "better than the base"
    if result.rule.kind in words:
        margin = number(abs(result.rule.bound)).lstrip("+")
        return f"{words[result.rule.kind]} {margin}"
    better = result.comparison.metric.better
    return f"{'above' if better == 'higher' else 'below'} {number(result.rule.bound)}"
