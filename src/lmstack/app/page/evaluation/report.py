"""What a report shows: results of models by task, compared where they can be.

Results that were not asked the same (version, protocol, data, samples) never share a row, so that
no two numbers of a row are unlike. The base is the model of ``base``, or the first one. Not
covered: pictures, HTML, and the verdict of a gate, which is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from lmstack.core import InputError, LmstackError
from lmstack.evals.gate import GateDecision
from lmstack.evals.json_forms import digest_of
from lmstack.evals.results import SampleResult, TaskResult
from lmstack.evals.statistics import Estimate
from lmstack.evals.task import Metric
from lmstack.evals.task_comparison import MetricComparison, adjusted, compare_results

__all__ = [
    "ComparedPair",
    "EvaluationReport",
    "Model",
    "SampleChange",
    "TaskRow",
    "number_of",
    "percent",
    "report_of",
]

_DIGITS = 7


@dataclass(frozen=True)
class Model:
    """``number``: from 0, decides its colour and mark. ``label``: its name, with the start of its
    digest where another has the same name."""

    number: int
    name: str
    digest: str
    label: str


@dataclass(frozen=True)
class TaskRow:
    """A task as all models of the row were given it. ``number``: from 1. ``unlike``: in what it
    differs from the first row of the same task, "" for that. ``results``: by the model's number."""

    number: int
    unlike: str
    results: Mapping[int, TaskResult]

    @property
    def first(self) -> TaskResult:
        return next(iter(self.results.values()))

    @property
    def task(self) -> str:
        return self.first.task

    @property
    def label(self) -> str:
        return f"{self.task} ({self.unlike})" if self.unlike else self.task

    @property
    def metric(self) -> Metric | None:
        """What the task is mainly judged by."""
        return self.first.metrics[0] if self.first.metrics else None

    def figure(self, model: int) -> Estimate | None:
        """Of the first metric; None where the model was not given the task."""
        result = self.results.get(model)
        if result is None or self.metric is None:
            return None
        return result.figures()[self.metric.name]


@dataclass(frozen=True)
class ComparedPair:
    """``other`` compared with the base on a row. ``found``: None where they cannot be, for the
    reason ``why``. ``p_adjusted``: over the rows of this model (Holm). ``left_out``: samples
    without a score on either side, because they failed or the metric does not apply."""

    row: TaskRow
    base: Model
    other: Model
    found: MetricComparison | None
    why: str = ""
    p_adjusted: float | None = None
    left_out: int = 0

    @property
    def changes(self) -> list[SampleChange]:
        """Samples with another score, lost ones first, then the largest changes."""
        if self.found is None:
            return []
        sides = [{s.id: s for s in self.row.results[m.number].samples} for m in self._models]
        return [
            SampleChange(self, sides[0][name], sides[1][name], is_gain)
            for ids, is_gain in ((self.found.lost, False), (self.found.gained, True))
            for name in ids
        ]

    @property
    def _models(self) -> tuple[Model, Model]:
        return self.base, self.other

    @cached_property
    def is_binary(self) -> bool:
        """Whether every score is right or wrong."""
        if self.found is None or not self.found.metric.is_share:
            return False
        results = (self.row.results[m.number] for m in self._models)
        rows = [result.rows_of(self.found.metric)[:, 0] for result in results]
        return bool(np.isin(np.concatenate(rows), (0.0, 1.0)).all())


@dataclass(frozen=True)
class SampleChange:
    """A sample on which two models differ. ``is_gain``: the other is better than the base."""

    pair: ComparedPair
    base: SampleResult
    other: SampleResult
    is_gain: bool


@dataclass(frozen=True)
class EvaluationReport:
    """``base``: None where there is one model. ``decisions``: the verdict of the gate on a model,
    or why there is none."""

    models: tuple[Model, ...]
    rows: tuple[TaskRow, ...]
    base: Model | None
    pairs: tuple[ComparedPair, ...]
    decisions: tuple[tuple[Model, GateDecision | str], ...] = ()

    @property
    def title(self) -> str:
        names = [model.label for model in self.models]
        if len(names) > 3:
            return f"{len(names)} models, {len(self.rows)} tasks"
        return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def report_of(
    results: Sequence[TaskResult],
    base: Sequence[TaskResult] = (),
    decisions: Mapping[str, GateDecision | str] | None = None,
) -> EvaluationReport:
    """``base``: results of the model that the others are compared with. ``decisions``: by the
    digest of a model. `InputError` where there is nothing, or two results of one model for the
    same task."""
    if len({each.subject_digest for each in base}) > 1:
        names = ", ".join(sorted({each.subject for each in base}))
        raise InputError(
            f"the results of the base are of several models: {names}",
            hint="give the folder of one model",
            param="base",
        )
    every = [*base, *results]
    if not every:
        raise InputError("there is no result to report", hint="give a file of `eval run -o`")
    models = _models(every)
    rows = _rows(every, {model.digest: model.number for model in models})
    first = models[0] if len(models) > 1 else None
    verdicts = decisions or {}
    return EvaluationReport(
        models,
        rows,
        first,
        () if first is None else tuple(_pairs(rows, first, models[1:])),
        tuple((model, verdicts[model.digest]) for model in models if model.digest in verdicts),
    )


def percent(share: float, decimals: int = 1) -> str:
    return f"{100 * share:.{decimals}f} %"


def number_of(metric: Metric, value: float) -> str:
    """``value`` as people read it: a share in per cent."""
    return percent(value) if metric.is_share else f"{value:.{metric.decimals}f}"


def _models(results: Sequence[TaskResult]) -> tuple[Model, ...]:
    names = {each.subject_digest: each.subject for each in results}
    return tuple(
        Model(number, name, digest, _label(digest, names))
        for number, (digest, name) in enumerate(names.items())
    )


def _label(digest: str, names: Mapping[str, str]) -> str:
    """The name, and as much of ``sha256:3f2a91c...+int8`` as tells it from others of that name:
    ``+int8`` where they are forms of the same weights, ``@3f2a91c`` where they are not."""
    content, plus, form = digest.removeprefix("sha256:").partition("+")
    alike = [each for each, name in names.items() if name == names[digest] and each != digest]
    if not alike:
        return names[digest]
    are_forms = all(each.removeprefix("sha256:").partition("+")[0] == content for each in alike)
    weights = "" if are_forms else f"@{content[:_DIGITS]}"
    return f"{names[digest]}{weights}{plus}{form}"


def _rows(results: Sequence[TaskResult], numbers: Mapping[str, int]) -> tuple[TaskRow, ...]:
    keyed: dict[str, dict[int, TaskResult]] = {}
    for each in results:
        of_row = keyed.setdefault(_asked(each), {})
        number = numbers[each.subject_digest]
        if number in of_row and of_row[number].digest != each.digest:
            raise InputError(
                f"there are two results of {each.task} for {each.subject}, of {each.date} and"
                f" {of_row[number].date}",
                hint="give one of them",
            )
        of_row.setdefault(number, each)
    found: list[TaskRow] = []
    for number, of_row in enumerate(keyed.values(), 1):
        result = next(iter(of_row.values()))
        alike = next((row for row in found if row.task == result.task), None)
        unlike = "" if alike is None else _unlike(alike.first, result)
        found.append(TaskRow(number, unlike, dict(sorted(of_row.items()))))
    return tuple(found)


def _asked(result: TaskResult) -> str:
    """Of all that has to be the same for two numbers to be comparable."""
    ids = sorted(sample.id for sample in result.samples)
    metrics = [metric.name for metric in result.metrics]
    known: list[Any] = [result.task, result.version, result.dataset_digest]
    return digest_of([*known, dict(result.protocol), metrics, ids], "what was asked")


def _unlike(one: TaskResult, two: TaskResult) -> str:
    if one.version != two.version:
        return f"version {two.version}"
    if one.dataset_digest != two.dataset_digest:
        return "other data"
    if dict(one.protocol) != dict(two.protocol):
        return "another protocol"
    if [m.name for m in one.metrics] != [m.name for m in two.metrics]:
        return "other metrics"
    count = len(two.samples)
    return f"{count:,} samples" if count != len(one.samples) else "other samples"


def _pairs(rows: Sequence[TaskRow], base: Model, others: Sequence[Model]) -> list[ComparedPair]:
    found = []
    for model in others:
        compared, unknown = [], []
        for row in rows:
            if base.number not in row.results or model.number not in row.results:
                continue
            try:
                sides = [_main(row.results[each.number]) for each in (base, model)]
                compared.append((row, compare_results(*sides, allow_failures=True)))
            except LmstackError as error:
                unknown.append(ComparedPair(row, base, model, None, error.message))
        corrected = adjusted([each for _, each in compared])
        for (row, _), each in zip(compared, corrected, strict=True):
            out = len(row.first.samples) - each.first.samples
            found.append(
                ComparedPair(row, base, model, each.first, p_adjusted=each.p_adjusted, left_out=out)
            )
        found += unknown
    return found


def _main(result: TaskResult) -> TaskResult:
    """With the first metric alone: no more is compared than is shown."""
    return replace(result, metrics=result.metrics[:1])
