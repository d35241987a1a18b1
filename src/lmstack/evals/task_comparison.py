"""Two results of one task, compared on the same samples.

Every sample is its own control, so that hard ones count against neither side. A share has McNemar's
exact test; whatever has clusters, or is no share, is tested by swapping the two sides of clusters
at random, which for a mean is the sign-flip test. The interval is of the paired difference (of a
share by Tango's score, exact), never the overlap of two intervals. Over several tasks p is adjusted
(Holm). What is not the same on both sides (task, protocol, data, samples) is refused, and named.
Each comparison also says how large a difference its samples would have shown: "no difference" of
few samples is no evidence of none. Not covered: whether a difference is enough (a gate), nor
comparisons of free answers without a task (`comparison`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from lmstack.core import InputError, shown
from lmstack.evals.clustered import are_clustered, estimate, swap_test
from lmstack.evals.gate.scores import paired_test
from lmstack.evals.pairs import BinaryPairs
from lmstack.evals.results import SampleResult, TaskResult
from lmstack.evals.statistics import Estimate, Floats, holm, mcnemar, mean_of
from lmstack.evals.task import Metric

__all__ = ["MetricComparison", "TaskComparison", "adjusted", "compare_results", "conclusions"]

Test = Literal["mcnemar", "sign-flip", "randomization"]
LEVEL, POWER = 0.05, 0.8


@dataclass(frozen=True)
class MetricComparison:
    """``difference``: of ``other`` from ``base``, with the p of ``test``. ``gained``, ``lost``: ids
    of samples on which ``other`` is better, and worse, the largest changes first; none for a
    figure that is no mean over samples. ``samples``: how many it rests on, in ``clusters``.
    ``detectable``: the smallest difference that they show at the two-sided level 0.05 with
    probability 0.8; NaN where too little is known."""

    metric: Metric
    base: Estimate
    other: Estimate
    difference: Estimate
    test: Test
    samples: int
    clusters: int
    gained: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    detectable: float = math.nan

    @property
    def gain(self) -> float:
        """The difference, above 0 where ``other`` is better."""
        sign = 1 if self.metric.better == "higher" else -1
        return sign * self.difference.value

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric.name,
            "better": self.metric.better,
            "base": self.base.to_json(),
            "other": self.other.to_json(),
            "difference": self.difference.to_json(),
            "test": self.test,
            "samples": self.samples,
            "clusters": self.clusters,
            "detectable": None if math.isnan(self.detectable) else self.detectable,
            "gained": list(self.gained),
            "lost": list(self.lost),
        }


@dataclass(frozen=True)
class TaskComparison:
    """``p_adjusted``: of the first metric, over all tasks compared with it (`adjusted`)."""

    task: str
    base: TaskResult
    other: TaskResult
    metrics: tuple[MetricComparison, ...]
    p_adjusted: float | None = None

    @property
    def first(self) -> MetricComparison:
        """Of the metric that a gate looks at."""
        return self.metrics[0]

    def to_json(self) -> dict[str, Any]:
        sides = {
            name: {"subject": side.subject, "digest": side.subject_digest, "result": side.digest}
            for name, side in (("base", self.base), ("other", self.other))
        }
        return {
            "task": self.task,
            **sides,
            "dataset_digest": self.base.dataset_digest,
            "protocol": dict(self.base.protocol),
            "metrics": [each.to_json() for each in self.metrics],
            "p_adjusted": self.p_adjusted,
        }


def compare_results(
    base: TaskResult, other: TaskResult, *, allow_failures: bool = False
) -> TaskComparison:
    """``allow_failures``: leave out samples that failed on either side; without it they are an
    error, because a model that fails on hard samples would look the better for it."""
    _check_same(base, other)
    if not allow_failures:
        base.check_complete()
        other.check_complete()
    first, *more = base.metrics
    # Of the first samples, some metrics may apply to none.
    more = [metric for metric in more if base.scored(metric) or other.scored(metric)]
    compared = [_compared(metric, base, other) for metric in (first, *more)]
    found = TaskComparison(base.task, base, other, tuple(compared))
    return replace(found, p_adjusted=found.first.difference.p)


def adjusted(comparisons: Sequence[TaskComparison]) -> list[TaskComparison]:
    """``comparisons`` with the p of their first metrics adjusted for how many they are."""
    tests = [each.first.difference.p for each in comparisons]
    found = holm([1.0 if p is None else p for p in tests])
    return [replace(each, p_adjusted=p) for each, p in zip(comparisons, found, strict=True)]


def conclusions(comparisons: Sequence[TaskComparison]) -> list[str]:
    """What follows, in sentences: on which tasks ``other`` is better and worse by the first metric
    (p adjusted), and where nothing was shown, how large a difference would have been."""
    verdicts: dict[str, list[str]] = {}
    for each in comparisons:
        if each.p_adjusted is not None and each.p_adjusted <= LEVEL:
            better = "better" if each.first.gain > 0 else "worse"
            verdicts.setdefault(better, []).append(each.task)
    parts = [f"{w} on {', '.join(verdicts[w])}" for w in ("better", "worse") if w in verdicts]
    if not parts:
        said = ["No difference was shown between other and base."]
    else:
        said = [f"other is {' and '.join(parts)} (p at most {LEVEL:g}, adjusted over tasks)."]
    return [*said, *(_sensitivity(each.task, each.first) for each in comparisons)]


def _sensitivity(task: str, first: MetricComparison) -> str:
    title = f"{task} {first.metric.name}"
    if math.isnan(first.detectable):
        return f"{title}: {first.samples:,} samples are too few to say what they would have shown."
    return (
        f"{title}: these {first.samples:,} samples show a difference of {first.detectable:.3f} or"
        f" more with probability {POWER:.0%}."
    )


def _compared(metric: Metric, base: TaskResult, other: TaskResult) -> MetricComparison:
    pairs = _pairs(metric, base, other)
    if not pairs:
        raise InputError(
            f"no sample of {base.task} has {metric.name} on both sides",
            hint="look at why the samples failed",
        )
    rows = [
        np.array([[each.scores[c] for c in metric.columns] for each in side], np.float64)
        for side in zip(*pairs, strict=True)
    ]
    clusters = [one.cluster for one, _ in pairs]
    is_mean = metric.statistic is mean_of
    sides = [estimate(each, clusters, metric.statistic, is_share=metric.is_share) for each in rows]
    difference, test = _difference(metric, rows[0], rows[1], clusters)
    gained, lost = _flips(metric, pairs, rows) if is_mean else ((), ())
    count = len(set(filter(None, clusters))) + clusters.count("")
    return MetricComparison(
        metric,
        sides[0],
        sides[1],
        difference,
        test,
        len(pairs),
        count,
        gained,
        lost,
        _detectable(metric, rows[0], rows[1], clusters),
    )


def _detectable(metric: Metric, base: Floats, other: Floats, clusters: Sequence[str]) -> float:
    shares = metric.is_share and metric.statistic is mean_of
    if shares and not all(((rows >= 0) & (rows <= 1)).all() for rows in (base, other)):
        return math.nan  # a scorer that breaks its word: the gate refuses its scores
    try:
        test = paired_test(metric, other, base, clusters)
        return test.detectable(0.0, LEVEL / 2, POWER)
    except InputError:  # a statistic that is not finite without one of the clusters
        return math.nan


def _pairs(
    metric: Metric, base: TaskResult, other: TaskResult
) -> list[tuple[SampleResult, SampleResult]]:
    """Samples that have the metric on both sides, in the order of ``base``."""
    found = {sample.id: sample for sample in other.scored(metric)}
    return [(each, found[each.id]) for each in base.scored(metric) if each.id in found]


def _difference(
    metric: Metric, base: Floats, other: Floats, clusters: Sequence[str]
) -> tuple[Estimate, Test]:
    if metric.statistic is not mean_of:
        columns = base.shape[1]

        def change(rows: Floats) -> Floats:
            one, two = rows[..., :columns], rows[..., columns:]
            found: Floats = metric.statistic(two) - metric.statistic(one)
            return found

        value = estimate(np.concatenate([base, other], axis=1), clusters, change)
        p = swap_test(base, other, clusters, metric.statistic)
        return replace(value, p=p), "randomization"
    differences = other[:, 0] - base[:, 0]
    is_binary = bool(np.isin(base[:, 0], (0, 1)).all() and np.isin(other[:, 0], (0, 1)).all())
    if metric.is_share and is_binary and not are_clustered(clusters):
        gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
        pairs = BinaryPairs(gained, lost, len(differences))
        # By pairs, as the gate has it: a bootstrap of few changes leaves nought out too easily.
        low, high = pairs.lower(LEVEL / 2), pairs.upper(LEVEL / 2)
        return Estimate(pairs.value, low, high, mcnemar(gained, lost)), "mcnemar"
    value = estimate(differences, clusters)
    return replace(value, p=swap_test(base, other, clusters)), "sign-flip"


def _flips(
    metric: Metric, pairs: Sequence[tuple[SampleResult, SampleResult]], rows: Sequence[Floats]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    gains = rows[1][:, 0] - rows[0][:, 0]
    if metric.better == "lower":
        gains = -gains
    order = np.argsort(-np.abs(gains), kind="stable")
    ids = [pairs[place][0].id for place in range(len(pairs))]
    gained = tuple(ids[place] for place in order if gains[place] > 0)
    return gained, tuple(ids[place] for place in order if gains[place] < 0)


def _check_same(base: TaskResult, other: TaskResult) -> None:
    names = f"{base.subject} and {other.subject}"
    again = "run the task again for both, with the same lmstack and the same data"
    for what, one, two in (
        ("tasks", base.task, other.task),
        ("versions of the task", base.version, other.version),
        ("data", base.dataset_digest, other.dataset_digest),
    ):
        if one != two:
            raise InputError(
                f"the results of {names} are of different {what}: {shown(one)} and {shown(two)}",
                hint=again,
            )
    if (place := _unlike(base.protocol, other.protocol)) is not None:
        path, one, two = place
        raise InputError(
            f"the results of {names} have different protocols: {path} is {shown(one)} and"
            f" {shown(two)}",
            hint=again,
        )
    if not base.metrics and not other.metrics:
        raise InputError(f"the results of {names} have no metrics", hint=again)
    if [metric.name for metric in base.metrics] != [metric.name for metric in other.metrics]:
        raise InputError(f"the results of {names} have different metrics", hint=again)
    only = [_missing(base, other), _missing(other, base)]
    if any(only):
        side, ids = (base, only[0]) if only[0] else (other, only[1])
        raise InputError(
            f"the results of {names} are of different samples: {len(only[0]) + len(only[1])} are"
            f" of one side alone, {shown(ids[0])} of {side.subject}",
            hint="run both with the same limit",
        )


def _missing(one: TaskResult, other: TaskResult) -> list[str]:
    """Samples of ``one`` that ``other`` does not have."""
    there = {sample.id for sample in other.samples}
    return [sample.id for sample in one.samples if sample.id not in there]


def _unlike(one: Any, two: Any, path: str = "") -> tuple[str, Any, Any] | None:
    """The first place where two values of JSON differ, with both; missing is null."""
    if isinstance(one, Mapping) and isinstance(two, Mapping):
        for name in sorted({*one, *two}):
            inner = f"{path}.{name}" if path else str(name)
            if (found := _unlike(one.get(name), two.get(name), inner)) is not None:
                return found
        return None
    is_same = one == two and isinstance(one, bool) == isinstance(two, bool)
    both_nan = isinstance(one, float) and isinstance(two, float) and math.isnan(one + two)
    return None if is_same or both_nan else (path or "protocol", one, two)
