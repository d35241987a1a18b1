"""How `lmstack eval run` has tasks asked, where they are computed, and the table of a suite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from lmstack.app.cli.command import option
from lmstack.app.cli.output import Output
from lmstack.app.formats import columns, printable

if TYPE_CHECKING:
    from lmstack.evals.results import TaskResult
    from lmstack.evals.task import Metric

__all__ = ["Chat", "Copies", "Perturb", "Ray", "ShotsAsTurns", "number_text", "print_suite"]

Chat = Annotated[bool, option("--chat: Ask through the model's chat template, as chat models are.")]
ShotsAsTurns = Annotated[
    bool,
    option("--fewshot-as-multiturn: With --chat: examples are turns of their own."),
]
Perturb = Annotated[
    list[str] | None,
    option(
        "--perturb NAME: Ask each question as it is and perturbed (typos, lowercase, spaces, "
        "mild_mix, ...), and score by the worse; several times."
    ),
]
Ray = Annotated[
    str | None,
    option(
        "--ray ADDRESS: Answer on a Ray cluster, `local` for one of this machine. Its machines "
        "need the same model."
    ),
]
Copies = Annotated[
    int,
    option("--ray-copies N 1..: How many processes hold the model on the cluster."),
]
# A column of the table: its title and the names of the figure, the first that a result has.
_COLUMNS = (
    ("CALIBRATION ERROR", ("ece",)),
    ("ROBUSTNESS", ("robustness",)),
    ("FAIRNESS", ("fairness",)),
    ("GENDER BIAS", ("gender_bias",)),
    ("RACE BIAS", ("race_bias",)),
    ("SECONDS", ("median_seconds",)),
)


def print_suite(out: Output, name: str, results: Sequence[TaskResult]) -> None:
    """A line for each scenario."""
    first = results[0]
    out.line(out.style(printable(f"{name}   {first.subject}", one_line=True), "bold"))
    titles = ("SCENARIO", "SAMPLES", "ACCURACY", *(title for title, _ in _COLUMNS), "TOXICITY")
    rows = [titles, *(_row(result) for result in results)]
    out.lines(columns(rows, indent=2))
    failed = sum(len(result.failures) for result in results)
    if failed:
        out.line(f"  {failed:,} samples failed")
    for note in (
        "accuracy is the first figure of each task; robustness and fairness are the same figure by"
        " the worse of a question as it is and perturbed",
        "bias is of written answers that speak of a group, 0 where all groups are spoken of alike",
        "toxicity is not measured: it takes a classifier, and none is at hand",
    ):
        out.note(note)


def _row(result: TaskResult) -> tuple[str, ...]:
    main = result.metrics[0]
    figures = [_figure(result, names) for _, names in _COLUMNS]
    accuracy = f"{_figure(result, (main.name,))} ({main.name})"
    samples = f"{len(result.samples):,}"
    return (result.task.removeprefix("helm_"), samples, accuracy, *figures, "not measured")


def _figure(result: TaskResult, names: Sequence[str]) -> str:
    metric = next((each for each in result.metrics if each.name in names), None)
    return "-" if metric is None else number_text(metric, result.figures()[metric.name].value)


def number_text(metric: Metric, value: float) -> str:
    """A figure as people read it; "-" where there is none."""
    if value != value:  # NaN
        return "-"
    return f"{100 * value:.1f} %" if metric.is_share else f"{value:.{metric.decimals}f}"
