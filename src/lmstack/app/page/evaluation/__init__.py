"""The page of an evaluation: one HTML file with figures, intervals, charts, and where each number
comes from.

Charts are SVG in the page, not of a library: they take the page's colours, light and dark, their
words can be searched and are read aloud, and no extra is needed. Without JavaScript all of it can
be read; the script only hides and shows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from lmstack.app.page.evaluation.calibrated import (
    SHOWN,
    CalibrationCurve,
    calibration_of,
    reliability_diagram,
    selective_accuracy,
)
from lmstack.app.page.evaluation.costs import MEASURES, cost_of, score_against_cost
from lmstack.app.page.evaluation.intervals import IntervalMark, PlotRow, interval_plot
from lmstack.app.page.evaluation.radar import LEAST_AXES, radar
from lmstack.app.page.evaluation.report import (
    EvaluationReport,
    Model,
    TaskRow,
    number_of,
    percent,
    report_of,
)
from lmstack.app.page.evaluation.samples import chosen, outcome, sample_facts
from lmstack.app.page.evaluation.sources import facts_of
from lmstack.app.page.evaluation.verdicts import forest_plots
from lmstack.app.report.charts.shapes import Chart, series_key
from lmstack.app.report.pages import self_contained
from lmstack.evals.results import ANSWER_CHARS
from lmstack.evals.statistics import mean_of
from lmstack.evals.task import Metric

__all__ = ["EvaluationReport", "evaluation_page", "report_of"]

Drawn = tuple[Chart, str]


def evaluation_page(report: EvaluationReport) -> str:
    """The page."""
    every = [result for row in report.rows for result in row.results.values()]
    dates = sorted(result.date[:10] for result in every)
    return self_contained(
        "page/evaluation/templates/page.html",
        styles=("report/page.css", "report/charts.css", "page/evaluation/page.css"),
        scripts=("report/page.js", "page/evaluation/page.js"),
        report=report,
        days=list(dict.fromkeys((dates[0], dates[-1]))),
        keys=_keys(report.models),
        suite=list(_suite(report)),
        not_on_the_radar=_not_on_the_radar(report),
        samples=[(pair, *chosen(pair.changes)) for pair in report.pairs],
        kept_chars=ANSWER_CHARS,
        calibrations=list(_calibrations(report)),
        calibration_figures=SHOWN,
        scatters=list(_scatters(report)),
        measures=[m for m in MEASURES if any(cost_of(result, m) is not None for result in every)],
        **_FUNCTIONS,
    )


def _keys(models: Iterable[Model]) -> list[tuple[Chart, str]]:
    return [(series_key(model.number), model.label) for model in models]


def _value(metric: Metric) -> Callable[[float], str]:
    """How a figure is written, without its unit."""
    return lambda value: number_of(metric, value).removesuffix(" %")


def _gain(metric: Metric) -> Callable[[float], str]:
    if metric.is_share:
        return lambda value: f"{100 * value:+z.1f}"
    return lambda value: f"{value:+z.{metric.decimals}f}"


# What templates write with.
_FUNCTIONS: dict[str, Any] = {
    "cost_of": cost_of,
    "facts_of": facts_of,
    "forest_plots": forest_plots,
    "gain_of": _gain,
    "is_mean": lambda metric: metric.statistic is mean_of,
    "json_of": lambda value: json.dumps(value, ensure_ascii=False, indent=2),
    "outcome": outcome,
    "percent": percent,
    "sample_facts": sample_facts,
    "value_of": _value,
}


def _profile(report: EvaluationReport) -> list[TaskRow]:
    """Tasks of one scale: shares of which more is better."""
    return [
        row
        for row in report.rows
        if row.metric is not None and row.metric.is_share and row.metric.better == "higher"
    ]


def _not_on_the_radar(report: EvaluationReport) -> str:
    profile = _profile(report)
    left = [row.label for row in report.rows if row not in profile]
    return ", ".join(left) if len(profile) >= LEAST_AXES else ""


def _suite(report: EvaluationReport) -> Iterator[Drawn]:
    profile = _profile(report)
    shares = [row for row in report.rows if row.metric is not None and row.metric.is_share]
    if len(profile) >= LEAST_AXES:
        about = "A profile: areas and crossings mean nothing. The numbers are in the table."
        yield _radar(report, profile), about
    if shares:
        plot = _dots(report, shares, profile if len(profile) > 6 else [])
        yield plot, "Shares with 95 % intervals"
    for row in report.rows:
        if row.metric is not None and not row.metric.is_share:
            words = f"{row.label}, {row.metric.name}: {row.metric.better} is better"
            yield _dots(report, [row], []), words


def _radar(report: EvaluationReport, rows: list[TaskRow]) -> Chart:
    models = []
    for model in report.models:
        figures = [row.figure(model.number) for row in rows]
        shares = [None if f is None or math.isnan(f.value) else f.value for f in figures]
        if any(share is not None for share in shares):
            models.append((model.number, model.label, shares))
    return radar([row.label for row in rows], models)


def _dots(report: EvaluationReport, rows: list[TaskRow], numbered: list[TaskRow]) -> Chart:
    metric = rows[0].metric
    assert metric is not None
    plotted = []
    for row in rows:
        marks = [_mark(row, model) for model in report.models if model.number in row.results]
        number = f"{numbered.index(row) + 1} " if row in numbered else ""
        what = row.metric.name if row.metric is not None else ""
        plotted.append(PlotRow(f"{number}{row.label}, {what}", tuple(marks)))
    return interval_plot(
        "Figures with intervals",
        plotted,
        is_share=metric.is_share,
        whole=(0.0, 1.0) if metric.is_share else None,
    )


def _mark(row: TaskRow, model: Model) -> IntervalMark:
    metric, figure = row.metric, row.figure(model.number)
    assert metric is not None
    assert figure is not None
    words = "–" if math.isnan(figure.value) else number_of(metric, figure.value)
    interval = figure.between(lambda value: number_of(metric, value))
    tip = f"{model.label} {words} {interval}".rstrip()
    return IntervalMark(figure.value, figure.low, figure.high, model.number, words=words, tip=tip)


def _calibrations(
    report: EvaluationReport,
) -> Iterator[tuple[TaskRow, Sequence[tuple[Model, CalibrationCurve]], list[Drawn], list[Drawn]]]:
    """Of each task: the curves of its models, the keys of their legend, and the charts."""
    for row in report.rows:
        curves = [(report.models[n], calibration_of(result)) for n, result in row.results.items()]
        found = [(model, curve) for model, curve in curves if curve is not None]
        if found:
            drawn = [(reliability_diagram(row, m, each), m.label) for m, each in found]
            drawn.append((selective_accuracy(row, found), "Selective accuracy"))
            yield row, found, _keys(m for m, _ in found) if len(found) > 1 else [], drawn


def _scatters(report: EvaluationReport) -> Iterator[Drawn]:
    for row in report.rows:
        if row.metric is None:
            continue
        for measure in MEASURES:
            points = []
            for number, result in row.results.items():
                cost, score = cost_of(result, measure), row.figure(number)
                if measure.name == "tokens" and not result.completion_tokens:
                    continue  # nothing was written: the tokens are those of the same prompts
                if cost is not None and score is not None and math.isfinite(score.value):
                    points.append((report.models[number], cost, score))
            if len(points) > 1:
                words = f"{row.label}: {row.metric.name} against {measure.unit}"
                yield score_against_cost(row, measure, points), words
