"""What the gate decides: its verdict, each rule's interval and bound as a forest plot, its reasons.

Rules of one unit share an axis: gains of shares over the baseline, gains in another unit, scores.
"""

from __future__ import annotations

from collections.abc import Callable

from lmstack.app.page.document import text_of
from lmstack.app.page.evaluation.intervals import IntervalMark, PlotRow, interval_plot
from lmstack.app.page.evaluation.report import Model
from lmstack.evals.gate import GateDecision, RuleResult

__all__ = ["forest_plots", "verdict"]

_KEY = "● passed, ■ broken, ◇ undecided."
# Outcome to the mark (circle, square, diamond) and its class.
_MARKS = {"passed": (0, "passed"), "broken": (1, "broken"), "undecided": (3, "undecided")}


def verdict(model: Model, decision: GateDecision | str) -> str:
    """Of one candidate. ``decision``: or why there is none."""
    name = text_of(model.label)
    if isinstance(decision, str):
        return (
            f'<article><h3>{name} <span class="tag bad">no verdict</span></h3>'
            f'<p class="wrong">{text_of(decision)}</p></article>\n'
        )
    kind = {"PROMOTE": "good", "REJECT": "bad"}.get(decision.verdict, "warn")
    summary, *others = decision.reasons
    reasons = "".join(f"<li>{text_of(reason)}</li>" for reason in others)
    return (
        f'<article><h3>{name} <span class="tag {kind}">{decision.verdict}</span></h3>\n'
        f'<p class="reason">{text_of(summary)}</p>\n'
        f'<div class="pictures">{forest_plots(decision)}</div>'
        f'<details><summary>Rule by rule</summary><ul class="reasons">{reasons}</ul></details>'
        "</article>\n"
    )


def forest_plots(decision: GateDecision) -> str:
    """A figure for each unit."""
    groups: dict[tuple[str, bool, str], list[RuleResult]] = {}
    for result in decision.results:
        metric = result.comparison.metric
        what = "Score" if result.rule.kind == "at_least" else "Gain over the base"
        unit = "" if metric.is_share else metric.name
        groups.setdefault((what, metric.is_share, unit), []).append(result)
    return "".join(
        _plot(what, is_share, unit, each) for (what, is_share, unit), each in groups.items()
    )


def _plot(what: str, is_share: bool, unit: str, results: list[RuleResult]) -> str:
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
    words = f"{what}{f', {unit}' if unit else ''}: {level} intervals. Dashed: the bound. {_KEY}"
    return f"<figure>{plot}<figcaption>{text_of(words)}</figcaption></figure>\n"


def _asked(result: RuleResult, number: Callable[[float], str]) -> str:
    words = {"non-inferior": "not worse by", "superior": "better by more than"}
    if result.rule.kind == "superior" and not result.rule.bound:
        return "better than the base"
    if result.rule.kind in words:
        margin = number(abs(result.rule.bound)).lstrip("+")
        return f"{words[result.rule.kind]} {margin}"
    better = result.comparison.metric.better
    return f"{'above' if better == 'higher' else 'below'} {number(result.rule.bound)}"
