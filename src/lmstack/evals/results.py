"""What came out of a task: a row for each sample, and all that a figure has to be traced to.

    figures()       each metric with its interval, resampled by cluster where there are clusters
    rows_of(name)   the numbers of one metric, a sample a row
    to_json()       a file's worth; `from_json` reads it back, strictly
    digest          of everything but dates and times: two runs with the same outputs have the same

A sample that failed has a reason and no scores. It is counted and shown, and `check_complete` is
what a gate asks first. Not covered: running (`run`), comparing two results (`task_comparison`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from lmstack.core import FormatError, InputError, nearest, shown
from lmstack.evals.clustered import estimate
from lmstack.evals.json_forms import (
    NUMBER,
    Kinds,
    canonical,
    checked,
    digest_of,
    scores_from_json,
    scores_to_json,
)
from lmstack.evals.statistics import Estimate, Floats, mean_of, ratio_of
from lmstack.evals.task import Metric

__all__ = ["ANSWER_CHARS", "SampleResult", "TaskResult", "file_stem"]

FORMAT = "lmstack.task_result"
VERSION = 1
# Of an answer, as far as a person reads; the whole of it is in the store.
ANSWER_CHARS = 10_000
_SHOWN = 3
_STATISTICS: dict[str, Callable[[Floats], Floats]] = {"mean": mean_of, "ratio": ratio_of}
_RESULT: Kinds = {
    "format": str,
    "format_version": int,
    "task": str,
    "version": int,
    "protocol": dict,
    "dataset": dict,
    "subject": dict,
    "date": str,
    "versions": dict,
    "seconds": NUMBER,
    "metrics": list,
    "figures": dict,
    "samples": list,
}
_DATASET: Kinds = {"name": str, "digest": str, "source": str, "samples": int}
_SUBJECT: Kinds = {"name": str, "digest": str}
_METRIC: Kinds = {
    "name": str,
    "columns": list,
    "statistic": str,
    "better": str,
    "is_share": bool,
    "decimals": int,
}
_FIGURE: Kinds = {"value": (*NUMBER, type(None)), "low": (*NUMBER, type(None))}
_FIGURE = {**_FIGURE, "high": (*NUMBER, type(None)), "p": (*NUMBER, type(None))}
_SAMPLE: Kinds = {
    "id": str,
    "cluster": str,
    "scores": dict,
    "failed": str,
    "answer": str,
    "finish_reason": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "seconds": NUMBER,
}
_TIMES = ("date", "seconds")


@dataclass(frozen=True)
class SampleResult:
    """``scores``: by name; none where it ``failed``, which is the reason then, else "". ``answer``:
    the beginning of the output's text. ``seconds``: from asking to the whole output."""

    id: str
    cluster: str = ""
    scores: Mapping[str, float] = field(default_factory=dict, hash=False)
    failed: str = ""
    answer: str = ""
    finish_reason: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "scores": scores_to_json(self.scores)}


def file_stem(task: str) -> str:
    """The name of a task as that of a file: one that another program gave may be a path."""
    return re.sub(r"[^\w.+-]", "_", task).lstrip(".") or "task"


@dataclass(frozen=True)
class TaskResult:
    """``version``, ``protocol``: of the task. ``source``: of the data. ``dataset_samples``: how
    many samples the data set has; ``samples`` may be the first of them. ``date``: UTC, ISO 8601.
    ``versions``: of packages. ``seconds``: of the run that made it, with outputs from a store at
    no time. ``kept_figures``: as the file had them, for metrics whose statistic no file can
    hold."""

    task: str
    version: int
    protocol: Mapping[str, Any] = field(hash=False)
    dataset: str
    dataset_digest: str
    source: str
    dataset_samples: int
    subject: str
    subject_digest: str
    metrics: tuple[Metric, ...]
    samples: tuple[SampleResult, ...]
    date: str
    versions: Mapping[str, str] = field(default_factory=dict, hash=False)
    seconds: float = 0.0
    kept_figures: Mapping[str, Estimate] = field(default_factory=dict, hash=False, compare=False)

    def __post_init__(self) -> None:
        ids = [sample.id for sample in self.samples]
        if len(set(ids)) < len(ids):
            twice = next(each for each in ids if ids.count(each) > 1)
            raise InputError(f"the result of {self.task} has the sample {shown(twice)} twice")
        names = [metric.name for metric in self.metrics]
        if len(set(names)) < len(names):
            raise InputError(f"the result of {self.task} has a metric twice: {names}")

    @property
    def file_stem(self) -> str:
        """The task's name as that of a file."""
        return file_stem(self.task)

    @property
    def failures(self) -> tuple[SampleResult, ...]:
        return tuple(sample for sample in self.samples if sample.failed)

    @property
    def is_complete(self) -> bool:
        """Whether every sample of the data set was run, and none failed."""
        return not self.failures and len(self.samples) == self.dataset_samples

    def check_complete(self, *, whole: bool = False) -> None:
        """`InputError` where samples failed; ``whole``: also where some were not run."""
        if failed := self.failures:
            reasons = "; ".join(f"{each.id}: {each.failed}" for each in failed[:_SHOWN])
            raise InputError(
                f"{len(failed)} of {len(self.samples)} samples of {self.task} failed for"
                f" {self.subject} ({reasons})",
                hint="run it again: samples that are done are kept, and failed ones are tried anew",
            )
        if whole and len(self.samples) < self.dataset_samples:
            raise InputError(
                f"{self.subject} was given {len(self.samples)} of the {self.dataset_samples}"
                f" samples of {self.task}",
                hint="run it without a limit",
            )

    @property
    def prompt_tokens(self) -> int:
        return sum(sample.prompt_tokens for sample in self.samples)

    @property
    def completion_tokens(self) -> int:
        return sum(sample.completion_tokens for sample in self.samples)

    def metric(self, name: str) -> Metric:
        found = next((each for each in self.metrics if each.name == name), None)
        if found is None:
            names = [each.name for each in self.metrics]
            guess = nearest(name, names)
            raise InputError(
                f"{self.task} has no metric {shown(name)}",
                hint=f"did you mean {guess!r}?" if guess else f"it has {', '.join(names)}",
                param="metric",
            )
        return found

    def scored(self, metric: Metric) -> list[SampleResult]:
        """The samples with a number in each of the metric's columns."""
        found = []
        for sample in self.samples:
            values = [sample.scores.get(column, math.nan) for column in metric.columns]
            if not any(map(math.isnan, values)):
                found.append(sample)
        return found

    def rows_of(self, metric: Metric | str) -> Floats:
        """The columns of ``metric`` for the samples that have them, (N, K)."""
        chosen = self.metric(metric) if isinstance(metric, str) else metric
        rows = [[each.scores[c] for c in chosen.columns] for each in self.scored(chosen)]
        return np.array(rows, np.float64).reshape(len(rows), len(chosen.columns))

    def figures(self) -> dict[str, Estimate]:
        """Each metric with its interval, NaN where no sample has it."""
        return dict(self._figures)

    @cached_property
    def _figures(self) -> dict[str, Estimate]:
        return {metric.name: self._figure(metric) for metric in self.metrics}

    def _figure(self, metric: Metric) -> Estimate:
        if metric.statistic is _unknown:
            return self.kept_figures[metric.name]
        samples = self.scored(metric)
        if not samples:
            return Estimate(math.nan)
        clusters = [sample.cluster for sample in samples]
        is_share = metric.is_share
        return estimate(self.rows_of(metric), clusters, metric.statistic, is_share=is_share)

    @cached_property
    def digest(self) -> str:
        return digest_of(self.to_json(times=False), f"the result of {self.task}")

    def to_json(self, *, times: bool = True) -> dict[str, Any]:
        """``times``: with the date, and the seconds of the run and of each sample."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "format_version": VERSION,
            "task": self.task,
            "version": self.version,
            "protocol": dict(self.protocol),
            "dataset": {
                "name": self.dataset,
                "digest": self.dataset_digest,
                "source": self.source,
                "samples": self.dataset_samples,
            },
            "subject": {"name": self.subject, "digest": self.subject_digest},
            "date": self.date,
            "versions": dict(self.versions),
            "seconds": self.seconds,
            "metrics": [_metric_to_json(metric) for metric in self.metrics],
            "figures": {name: value.to_json() for name, value in self._figures.items()},
            "samples": [sample.to_json() for sample in self.samples],
        }
        if not times:
            for each in (found, *found["samples"]):
                for name in _TIMES:
                    each.pop(name, None)
        return found

    @classmethod
    def from_json(cls, value: Any, metrics: Sequence[Metric] = ()) -> TaskResult:
        """``metrics``: of the task, whose statistics take the place of those that a file cannot
        hold. `FormatError` where ``value`` is not what `to_json` gives."""
        _check_format(value)
        data = checked(value, "a result", _RESULT)
        dataset = checked(data["dataset"], "the dataset of a result", _DATASET)
        subject = checked(data["subject"], "the subject of a result", _SUBJECT)
        canonical(data["protocol"], "the protocol of a result")
        known = {metric.name: metric for metric in metrics}
        found = [_metric_from_json(each, known) for each in data["metrics"]]
        figures = {name: _figure_from_json(each, name) for name, each in data["figures"].items()}
        if missing := [metric.name for metric in found if metric.name not in figures]:
            raise FormatError(f"a result lacks the figure {missing[0]!r}")
        return cls(
            task=data["task"],
            version=data["version"],
            protocol=data["protocol"],
            dataset=dataset["name"],
            dataset_digest=dataset["digest"],
            source=dataset["source"],
            dataset_samples=dataset["samples"],
            subject=subject["name"],
            subject_digest=subject["digest"],
            metrics=tuple(found),
            samples=tuple(_sample_from_json(each) for each in data["samples"]),
            date=data["date"],
            versions={name: str(each) for name, each in data["versions"].items()},
            seconds=float(data["seconds"]),
            kept_figures=figures,
        )


def _check_format(value: Any) -> None:
    found = value.get("format") if isinstance(value, dict) else value
    if found != FORMAT:
        raise FormatError(
            f"this is no result of a task: its format is {shown(found)}, not {FORMAT!r}",
            hint="give a file that lmstack wrote, or import it from another program's log",
        )
    if value.get("format_version") != VERSION:
        raise FormatError(
            f"the result has the format version {shown(value.get('format_version'))}; this lmstack"
            f" reads {VERSION}",
            hint="use the lmstack that wrote it, or run the task again",
        )


def _unknown(rows: Floats) -> Floats:
    raise InputError(
        f"the statistic of a metric of {rows.shape[-1]} columns is not in the file",
        hint="read the result together with the metrics of its task",
        param="metrics",
    )


def _metric_to_json(metric: Metric) -> dict[str, Any]:
    statistic = "mean" if metric.statistic is mean_of else "other"
    if metric.statistic is ratio_of:
        statistic = "ratio"
    return {**vars(metric), "columns": list(metric.columns), "statistic": statistic}


def _metric_from_json(value: Any, known: Mapping[str, Metric]) -> Metric:
    data = dict(checked(value, "a metric", _METRIC))
    data["columns"] = tuple(map(str, data["columns"]))
    if data["better"] not in ("higher", "lower"):
        raise FormatError(f"better of a metric is {shown(data['better'])}, not higher or lower")
    name = data.pop("statistic")
    metric = Metric(statistic=_STATISTICS.get(name, _unknown), **data)
    if name == "other" and metric.name in known:
        given = known[metric.name]
        if replace(given, statistic=_unknown) != metric:
            raise InputError(
                f"the metric {metric.name} of the file is another than that of the task",
                hint="run the task again",
                param="metrics",
            )
        return given
    if name not in (*_STATISTICS, "other"):
        raise FormatError(f"statistic of the metric {metric.name} is {shown(name)}")
    return metric


def _figure_from_json(value: Any, name: str) -> Estimate:
    data = checked(value, f"the figure {name}", _FIGURE)
    value, low, high = (
        math.nan if data[each] is None else float(data[each]) for each in ("value", "low", "high")
    )
    return Estimate(value, low, high, data["p"])


def _sample_from_json(value: Any) -> SampleResult:
    data = dict(checked(value, "a sample of a result", _SAMPLE))
    data["scores"] = scores_from_json(data["scores"], f"the scores of {data['id']}")
    data["seconds"] = float(data["seconds"])
    if not data["id"] or (data["failed"] and data["scores"]):
        raise FormatError(f"the sample {shown(data['id'])} of a result contradicts itself")
    return SampleResult(**data)
