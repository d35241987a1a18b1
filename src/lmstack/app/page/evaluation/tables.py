"""The tables of the report: figures of tasks and models, differences from the base, calibration,
and cost. A number never stands without its interval, and a cell says where a run was partial."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from lmstack.app.page.document import text_of
from lmstack.app.page.evaluation.calibrated import SHOWN, CalibrationCurve
from lmstack.app.page.evaluation.costs import MEASURES, cost_of
from lmstack.app.page.evaluation.report import (
    ComparedPair,
    EvaluationReport,
    Model,
    TaskRow,
    number_of,
    percent,
)
from lmstack.evals.results import TaskResult
from lmstack.evals.statistics import Estimate, mean_of
from lmstack.evals.task import Metric

__all__ = [
    "calibration_table",
    "cost_table",
    "difference_table",
    "estimate_cell",
    "figure_table",
    "flags",
    "metric_cell",
    "table",
]

_NOTHING = '<span class="soft">–</span>'


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], label: str, words: Sequence[int] = ()
) -> str:
    """``heads``, cells: HTML. The first cell of a row names it. ``words``: the places of columns
    that hold no numbers."""
    sides = [' class="word"' if place in words else "" for place in range(len(heads))]
    head = "".join(
        f'<th scope="col"{side}>{cell}</th>' for cell, side in zip(heads, sides, strict=True)
    )
    body = "".join(
        f'<tr><th scope="row">{row[0]}</th>'
        + "".join(f"<td{side}>{cell}</td>" for cell, side in zip(row[1:], sides[1:], strict=True))
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="wide" tabindex="0" role="region" aria-label="{text_of(label)}">'
        f"<table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>\n"
    )


def figure_table(report: EvaluationReport) -> str:
    """A row a task, a column a model: the first metric, with a link to where it comes from."""
    heads = ["Task", "Metric", *(text_of(model.label) for model in report.models)]
    rows = []
    for row in report.rows:
        metric = row.metric
        name = f'<a href="#task-{row.number}">{text_of(row.label)}</a>'
        what = "none" if metric is None else _metric_name(metric)
        cells = [_figure(row, model) for model in report.models]
        rows.append([name, what, *cells])
    return table(heads, rows, "Figures", words=[1])


def _metric_name(metric: Metric) -> str:
    less = ' <span class="soft">(less is better)</span>' if metric.better == "lower" else ""
    return f"{text_of(metric.name)}{less}"


def _figure(row: TaskRow, model: Model) -> str:
    figure = row.figure(model.number)
    if figure is None or row.metric is None:
        return _NOTHING
    metric, result = row.metric, row.results[model.number]
    return metric_cell(metric, figure) + flags(result)


def metric_cell(metric: Metric, figure: Estimate) -> str:
    unit = " %" if metric.is_share else ""
    return estimate_cell(figure, lambda value: number_of(metric, value).removesuffix(unit), unit)


def estimate_cell(figure: Estimate, number: Callable[[float], str], unit: str = "") -> str:
    """The value, its interval under it. ``number``: how a value is written; ``unit`` follows it."""
    if math.isnan(figure.value):
        return _NOTHING
    interval = figure.between(number)
    under = f'<span class="interval-text">{text_of(interval)}</span>' if interval else ""
    return f"{text_of(number(figure.value) + unit)}{under}"


def flags(result: TaskResult) -> str:
    """What keeps a figure from being that of the whole data set."""
    found = ""
    if len(result.samples) < result.dataset_samples:
        count = f"{len(result.samples):,} of {result.dataset_samples:,} samples"
        found += f'<span class="tag warn">{count}</span>'
    if result.failures:
        found += f'<span class="tag bad">{len(result.failures):,} failed</span>'
    return f'<span class="flags">{found}</span>' if found else ""


def difference_table(report: EvaluationReport) -> str:
    """Every comparison with the base, on the same samples."""
    heads = ("Task", "Model", "Metric", "Difference", "p", "p, Holm", "Better", "Worse", "Test")
    rows = [_difference(pair) for pair in report.pairs]
    return table(heads, rows, "Differences from the base", words=[1, 2, 8])


def _difference(pair: ComparedPair) -> list[str]:
    found = pair.found
    names = [text_of(pair.row.label), text_of(pair.other.label)]
    if found is None:
        return [*names, "", f'<span class="wrong">{text_of(pair.why)}</span>', "", "", "", "", ""]
    metric, is_mean = found.metric, found.metric.statistic is mean_of
    p, corrected = (_p(each) for each in (found.difference.p, pair.p_adjusted))
    out = f", {pair.left_out:,} not scored" if pair.left_out else ""
    return [
        *names,
        _metric_name(metric),
        estimate_cell(
            found.difference,
            lambda value: _signed(metric, value),
            " points" if metric.is_share else "",
        ),
        p,
        corrected,
        *((f"{len(ids):,}" if is_mean else "–") for ids in (found.gained, found.lost)),
        f"{found.test}, {found.samples:,} samples{out}",
    ]


def _signed(metric: Metric, value: float) -> str:
    return f"{100 * value:+z.1f}" if metric.is_share else f"{value:+z.{metric.decimals}f}"


def _p(p: float | None) -> str:
    if p is None:
        return "–"
    return "&lt;0.001" if p < 0.001 else f"{p:.3f}"


def calibration_table(found: Sequence[tuple[Model, CalibrationCurve]]) -> str:
    right = " or ".join(dict.fromkeys(each.column for _, each in found))
    heads = ["Model", "Samples", "Mean confidence", f"Right ({text_of(right)})", *SHOWN.values()]
    rows = [
        [
            text_of(model.label),
            f"{each.samples:,}",
            percent(each.confidence),
            percent(each.accuracy),
            *(estimate_cell(each.figures[name], "{:.3f}".format) for name in SHOWN),
        ]
        for model, each in found
    ]
    return table(heads, rows, "Calibration")


def cost_table(report: EvaluationReport) -> str:
    """Means over samples, and what the run took as a whole."""
    every = [result for row in report.rows for result in row.results.values()]
    known = [m for m in MEASURES if any(cost_of(result, m) is not None for result in every)]
    heads = ["Task", "Model", *(m.unit.capitalize() for m in known), "Tokens in, out", "Run"]
    rows = []
    for row in report.rows:
        for number, result in row.results.items():
            costs = []
            for measure in known:
                found = cost_of(result, measure)
                written = f"{{:.{measure.decimals}f}}".format
                costs.append(_NOTHING if found is None else estimate_cell(found, written))
            tokens = f"{result.prompt_tokens:,}, {result.completion_tokens:,}"
            names = [text_of(row.label), text_of(report.models[number].label)]
            rows.append([*names, *costs, tokens, f"{result.seconds:,.1f} s"])
    return table(heads, rows, "Cost", words=[1])
