"""The page of an evaluation: one HTML file with figures, intervals, pictures, and where each number
comes from.

Pictures are SVG that is drawn here, not by a library: they take the page's colours, light and dark,
their words can be searched and are read aloud, and no extra is needed. Without JavaScript all of it
can be read; the script only hides and shows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from lmstack.app.page.document import self_contained, text_of
from lmstack.app.page.evaluation.calibrated import (
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
    report_of,
)
from lmstack.app.page.evaluation.samples import changed_samples
from lmstack.app.page.evaluation.sources import source_of
from lmstack.app.page.evaluation.svg import legend
from lmstack.app.page.evaluation.tables import (
    calibration_table,
    cost_table,
    difference_table,
    figure_table,
)
from lmstack.app.page.evaluation.verdicts import verdict
from lmstack.evals.task import Metric

__all__ = ["EvaluationReport", "evaluation_page", "report_of"]


def evaluation_page(report: EvaluationReport) -> str:
    """The page."""
    return self_contained(
        f"{report.title}: evaluation",
        report.title,
        "".join(_main(report)),
        folder="evaluation",
        skip=("figures", "the figures"),
    )


def _main(report: EvaluationReport) -> Iterator[str]:
    yield f'<h1>{text_of(report.title)}</h1>\n<p class="lead">{_lead(report)}</p>\n'
    if report.decisions:
        yield _section("gate", "What the gate decides", "".join(_gate(report)))
    yield _section("figures", "Figures", figure_table(report) + _about_figures(report))
    yield _section("suite", "The suite", _suite(report))
    if report.pairs:
        yield _section("differences", "Differences from the base", _differences(report))
        yield _section("samples", "Samples that changed", changed_samples(report))
    if calibrated := "".join(_calibrations(report)):
        yield _section("calibration", "Calibration", _ABOUT_CALIBRATION + calibrated)
    yield _section("cost", "Score and cost", "".join(_costs(report)))
    sources = "".join(source_of(report, row) for row in report.rows)
    yield _section("sources", "Where each number comes from", sources)


def _section(name: str, title: str, inside: str) -> str:
    return f'<section id="{name}"><h2>{title}</h2>\n{inside}</section>\n'


def _lead(report: EvaluationReport) -> str:
    dates = sorted(result.date for row in report.rows for result in row.results.values())
    days = f"{dates[0][:10]}" + (f" to {dates[-1][:10]}" if dates[-1][:10] != dates[0][:10] else "")
    counts = f"{_counted(len(report.models), 'model')} on {_counted(len(report.rows), 'task')}"
    base = "" if report.base is None else f" The base is {text_of(report.base.label)}."
    return f"{counts}, measured {text_of(days)}. Every interval holds 95 %, over samples.{base}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def _gate(report: EvaluationReport) -> Iterator[str]:
    for model, decision in report.decisions:
        yield verdict(model, decision)


def _about_figures(report: EvaluationReport) -> str:
    unlike = any(row.unlike for row in report.rows)
    more = " A task that was not asked the same of all has a row of its own." if unlike else ""
    return (
        '<p class="soft">The first metric of each task; a task\'s name leads to all of them, and to'
        f" the protocol, data and digests.{more}</p>\n"
    )


def _suite(report: EvaluationReport) -> str:
    names = [model.label for model in report.models]
    shares = [row for row in report.rows if row.metric is not None and row.metric.is_share]
    profile = [row for row in shares if row.metric is not None and row.metric.better == "higher"]
    found = ""
    if len(profile) >= LEAST_AXES:
        found += _figure(
            _radar(report, profile),
            "A profile: areas and crossings mean nothing. The numbers are in the table.",
        )
    if shares:
        plot = _dots(report, shares, profile if len(profile) > 6 else [])
        found += _figure(plot, "Shares with 95 % intervals")
    for row in report.rows:
        if row.metric is not None and not row.metric.is_share:
            words = f"{row.label}, {row.metric.name}: {row.metric.better} is better"
            found += _figure(_dots(report, [row], []), words)
    left = [row.label for row in report.rows if row not in profile]
    note = ""
    if len(profile) >= LEAST_AXES and left:
        names_left = text_of(", ".join(left))
        note = f'<p class="soft">Not on the radar, for want of its scale: {names_left}.</p>'
    return f'{legend(names)}<div class="pictures">{found}</div>{note}\n'


def _radar(report: EvaluationReport, rows: list[TaskRow]) -> str:
    models = []
    for model in report.models:
        figures = [row.figure(model.number) for row in rows]
        shares = [None if f is None or math.isnan(f.value) else f.value for f in figures]
        if any(share is not None for share in shares):
            models.append((model.number, model.label, shares))
    return radar([row.label for row in rows], models)


def _dots(report: EvaluationReport, rows: list[TaskRow], numbered: list[TaskRow]) -> str:
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
    words = _or_none(metric, figure.value)
    interval = figure.between(lambda value: number_of(metric, value))
    tip = f"{model.label} {words} {interval}".rstrip()
    return IntervalMark(figure.value, figure.low, figure.high, model.number, words=words, tip=tip)


def _or_none(metric: Metric, value: float) -> str:
    return "–" if math.isnan(value) else number_of(metric, value)


def _figure(plot: str, words: str) -> str:
    return f"<figure>{plot}<figcaption>{text_of(words)}</figcaption></figure>\n"


def _differences(report: EvaluationReport) -> str:
    about = (
        '<p class="soft">Every sample is its own control. Intervals are of the paired difference; p'
        " is of no difference, and after Holm over the tasks of a model.</p>\n"
    )
    return about + difference_table(report)


_ABOUT_CALIBRATION = (
    '<p class="soft">How often the chosen answer was right, by how sure the model was. A calibrated'
    " model lies on the dashed line. Bars count the samples. Selective accuracy: if only the surest"
    " are answered; from the tenth answer on.</p>\n"
)


def _calibrations(report: EvaluationReport) -> Iterator[str]:
    is_first = True
    for row in report.rows:
        found: list[tuple[Model, CalibrationCurve]] = []
        for number, result in row.results.items():
            each = calibration_of(result)
            if each is not None:
                found.append((report.models[number], each))
        if not found:
            continue
        figures = "".join(
            _figure(reliability_diagram(row, model, each), model.label) for model, each in found
        )
        figures += _figure(selective_accuracy(row, found), "Selective accuracy")
        names = [model.label for model, _ in found]
        key = legend(names, [model.number for model, _ in found]) if len(names) > 1 else ""
        yield (
            f'<details{" open" * is_first}><summary><span class="line">{text_of(row.label)}</span>'
            f'</summary>\n{calibration_table(found)}{key}<div class="pictures">{figures}</div>'
            "</details>\n"
        )
        is_first = False


def _costs(report: EvaluationReport) -> Iterator[str]:
    yield (
        '<p class="soft">Means over samples. Seconds run from asking to the whole answer, with'
        " others asked at the same time; of an answer kept from before, as they were then. The run"
        " is without those.</p>\n"
    )
    scatters = "".join(_scatters(report))
    if scatters:
        names = [model.label for model in report.models]
        yield f'{legend(names)}<div class="pictures">{scatters}</div>\n'
    table = cost_table(report)
    is_open = " open" * (not scatters)
    yield f"<details{is_open}><summary>Costs as a table</summary>{table}</details>\n"


def _scatters(report: EvaluationReport) -> Iterator[str]:
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
                yield _figure(score_against_cost(row, measure, points), words)
