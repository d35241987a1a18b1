"""Scores of one task, of a candidate and of a baseline, checked before anything is concluded.

Two sides that do not match in samples, protocol or data are an error and never a comparison; so are
scores that are missing or not finite. Covers the choice of the test, which depends on the kind of
score and on how samples are clustered, not on who is ahead. Not covered: rules (`config`).

Legend: N samples, K columns, C clusters.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, shown
from lmstack.evals.clustered import Statistic, are_clustered, cluster_sums, pseudo_values
from lmstack.evals.noninferiority import BoundedMean, MeanTest, StudentizedMean
from lmstack.evals.pairs import BinaryPairs
from lmstack.evals.sequential import BettingMean
from lmstack.evals.statistics import mean_of
from lmstack.evals.task import Metric, Task

__all__ = ["GateComparison", "TaskScores", "paired_test"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TaskScores:
    """What one system scored. ``rows`` (N, K): the columns that ``metric`` sums up, or (N,) for
    its only one; without samples to which the metric does not apply. ``ids`` (N,): of the samples.
    ``clusters`` (N,), or () where all stand alone. ``protocol`` and ``data``: digests of what was
    asked and of what it was asked about. ``digest``: of the system."""

    task: str
    metric: Metric
    ids: tuple[str, ...]
    rows: Floats
    protocol: str
    data: str
    digest: str
    clusters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = np.asarray(self.rows, np.float64)
        rows = rows[:, None] if rows.ndim == 1 else rows
        object.__setattr__(self, "rows", rows)
        if rows.ndim != 2 or rows.shape != (len(self.ids), len(self.metric.columns)):
            self._fail(
                f"has scores of the shape {rows.shape} for {len(self.ids)} samples and"
                f" {len(self.metric.columns)} columns"
            )
        if not self.ids:
            self._fail("has no samples")
        if len(set(self.ids)) < len(self.ids):
            self._fail("scores a sample twice", "give each sample its own id")
        if self.clusters and len(self.clusters) != len(self.ids):
            self._fail(f"names {len(self.clusters)} clusters for {len(self.ids)} samples")
        for name in ("protocol", "data", "digest"):
            if not getattr(self, name):
                self._fail(f"says no {name}", "a score without it cannot be compared")
        self._check_values(rows)

    @classmethod
    def of_task(
        cls, task: Task, metric: Metric, rows: Mapping[str, Mapping[str, float]], digest: str
    ) -> TaskScores:
        """From the scorer's numbers for each sample, by id. Samples for which a column is NaN are
        left out: ``metric`` does not apply to them. `InputError` where a sample has no numbers."""
        missing = [each.id for each in task.dataset.samples if each.id not in rows]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(task.dataset.samples)} samples of {task.name} have no"
                f" scores, {missing[0]!r} the first of them",
                hint="let the evaluation run to its end",
            )
        names = [(name, row) for name in metric.columns for row in rows.values()]
        absent = next((name for name, row in names if name not in row), None)
        if absent:
            raise InputError(f"{task.name} does not score {absent}, which {metric.name} sums up")
        table = [[rows[s.id][name] for name in metric.columns] for s in task.dataset.samples]
        kept = [place for place, row in enumerate(table) if not any(map(math.isnan, row))]
        samples = [task.dataset.samples[place] for place in kept]
        protocol = json.dumps(task.protocol, sort_keys=True, ensure_ascii=False)
        return cls(
            task.name,
            metric,
            tuple(each.id for each in samples),
            np.array([table[place] for place in kept]).reshape(-1, len(metric.columns)),
            f"sha256:{hashlib.sha256(protocol.encode()).hexdigest()}",
            task.dataset.digest,
            digest,
            tuple(each.cluster for each in samples),
        )

    def _check_values(self, rows: Floats) -> None:
        bad = ~np.isfinite(rows).all(1)
        if bad.any():
            first = self.ids[int(np.argmax(bad))]
            self._fail(
                f"has no finite score for {int(bad.sum())} of {len(self.ids)} samples, {first!r}"
                " the first of them",
                "run them again; leave out, of both systems, samples that the metric is not for",
            )
        scores = rows[:, 0]
        if self.is_bounded and not ((scores >= 0) & (scores <= 1)).all():
            wrong = scores[(scores < 0) | (scores > 1)][0]
            self._fail(
                f"has the score {shown(float(wrong))}, and {self.metric.name} is a share",
                "a share is from 0 to 1",
            )

    def _fail(self, what: str, hint: str | None = None) -> None:
        raise InputError(f"{self.task} {self.metric.name} of {self.digest} {what}", hint=hint)

    def in_order(self, ids: tuple[str, ...]) -> TaskScores:
        """The same scores, their samples in the order of ``ids``."""
        place = {name: number for number, name in enumerate(self.ids)}
        order = [place[name] for name in ids]
        clusters = tuple(self.clusters[i] for i in order) if self.clusters else ()
        return replace(self, ids=ids, rows=self.rows[order], clusters=clusters)

    @property
    def is_bounded(self) -> bool:
        """Whether the figure is the mean of scores from 0 to 1."""
        return self.metric.is_share and self.metric.statistic is mean_of

    @property
    def value(self) -> float:
        return float(self.metric.statistic(self.rows))

    @property
    def sign(self) -> int:
        """1 where more is better, otherwise -1."""
        return 1 if self.metric.better == "higher" else -1

    @cached_property
    def is_clustered(self) -> bool:
        return are_clustered(self.clusters)

    def test(self, any_look: bool = False) -> MeanTest:
        """Of the score itself, its sign such that more is better."""
        if self.is_bounded:
            limits = (0.0, 1.0) if self.sign > 0 else (-1.0, 0.0)
            return _bounded(self.sign * self.rows[:, 0], self.clusters, limits, any_look)
        _no_bet(self, any_look)
        return _studentized(self.rows, self.clusters, self.metric.statistic, self.sign)


@dataclass(frozen=True)
class GateComparison:
    """``baseline``: None where nothing is in production yet. Its samples are put in the
    candidate's order."""

    candidate: TaskScores
    baseline: TaskScores | None = None

    def __post_init__(self) -> None:
        if self.baseline is None:
            return
        mine, theirs = self.candidate, self.baseline
        for name in ("task", "protocol", "data"):
            one, two = getattr(mine, name), getattr(theirs, name)
            if one != two:
                self._fail(
                    f"different: {shown(two)} of the baseline, {shown(one)} of the candidate", name
                )
        if _key(mine.metric) != _key(theirs.metric):
            self._fail(f"different: {_key(theirs.metric)}, and {_key(mine.metric)}", "metric")
        if mine.ids != theirs.ids and set(mine.ids) != set(theirs.ids):
            only = sorted(set(mine.ids) ^ set(theirs.ids))
            self._fail(f"different: {len(only)} on one side alone, such as {only[0]!r}", "samples")
        if mine.ids != theirs.ids:
            theirs = theirs.in_order(mine.ids)
            object.__setattr__(self, "baseline", theirs)
        if _plain(theirs.clusters) != _plain(mine.clusters):
            self._fail("different", "clusters")

    def _fail(self, what: str, name: str) -> None:
        raise InputError(
            f"{self.candidate.task} {self.candidate.metric.name} cannot be compared:"
            f" {name} {'is' if name in ('task', 'metric', 'protocol') else 'are'} {what}",
            hint="evaluate both systems on the same samples, by the same protocol",
            param=name,
        )

    @property
    def task(self) -> str:
        return self.candidate.task

    @property
    def metric(self) -> Metric:
        return self.candidate.metric

    @cached_property
    def gain(self) -> MeanTest:
        """Of the candidate over the baseline, for one look."""
        return self.test()

    def test(self, any_look: bool = False) -> MeanTest:
        """Of the gain: by how much the candidate is better."""
        mine, theirs = self.candidate, self.baseline
        if theirs is None:
            raise InputError(
                f"{mine.task} {mine.metric.name} has no baseline to compare with",
                hint="evaluate what is in production, or use rules with a threshold alone",
            )
        if not mine.is_bounded:
            _no_bet(mine, any_look)
        return paired_test(mine.metric, mine.rows, theirs.rows, mine.clusters, any_look=any_look)


def paired_test(
    metric: Metric,
    candidate: Floats,
    baseline: Floats,
    clusters: Sequence[str] = (),
    *,
    any_look: bool = False,
) -> MeanTest:
    """Of by how much ``candidate`` (N, K) is better than ``baseline`` (N, K), the columns of
    ``metric`` for the same samples. ``any_look``: of a share alone."""
    sign = 1 if metric.better == "higher" else -1
    if metric.is_share and metric.statistic is mean_of:
        differences = sign * (candidate[:, 0] - baseline[:, 0])
        both = np.stack([candidate[:, 0], baseline[:, 0]])
        is_binary = bool(np.isin(both, (0.0, 1.0)).all())
        if is_binary and not any_look and not are_clustered(clusters):
            gained, lost = int((differences > 0).sum()), int((differences < 0).sum())
            return BinaryPairs(gained, lost, len(differences))
        return _bounded(differences, clusters, (-1.0, 1.0), any_look)
    statistic, columns = metric.statistic, candidate.shape[1]

    def difference(rows: Floats) -> Floats:
        found: Floats = statistic(rows[..., :columns]) - statistic(rows[..., columns:])
        return found

    rows = np.concatenate([candidate, baseline], axis=1)
    return _studentized(rows, clusters, difference, sign)


def _key(metric: Metric) -> tuple[object, ...]:
    return metric.name, metric.columns, metric.better, metric.is_share


def _plain(clusters: Sequence[str]) -> tuple[str, ...]:
    return tuple(clusters) if any(clusters) else ()


def _bounded(
    values: Floats, clusters: Sequence[str], limits: tuple[float, float], any_look: bool
) -> MeanTest:
    sums = cluster_sums(values, clusters)
    if any_look:
        return BettingMean(sums, *limits, largest=float(sums.sizes.max()))
    return BoundedMean(sums, *limits)


def _studentized(
    rows: Floats, clusters: Sequence[str], statistic: Statistic, sign: int
) -> MeanTest:
    return StudentizedMean(sign * pseudo_values(rows, clusters, statistic), len(rows))


def _no_bet(scores: TaskScores, any_look: bool) -> None:
    if any_look:
        raise InputError(
            f"{scores.task} {scores.metric.name} is no share from 0 to 1, so it cannot be"
            " looked at any number of times",
            hint="say how many looks there will be: looks: 3",
            param="looks",
        )
