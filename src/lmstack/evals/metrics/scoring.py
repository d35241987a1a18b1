"""What all scorers share: parameters that are checked, a protocol that names them, and metrics.

A scorer is a frozen configuration: its fields are its parameters, so that a task's YAML builds it
and its `protocol` holds all that decides a score. Not covered: which there are (`registry`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from lmstack.core import Config, InputError, check_whole, shown
from lmstack.evals.statistics import Floats, mean_of
from lmstack.evals.task import Metric, ModelOutput, Sample, Scorer

__all__ = [
    "Combined",
    "ConfiguredScorer",
    "MetricScorer",
    "average",
    "best_of",
    "needed_targets",
    "of_each",
    "places",
    "share",
]


class MetricScorer(Scorer, Protocol):
    """A scorer that knows how its scores are summed up."""

    @property
    def metrics(self) -> tuple[Metric, ...]: ...


@dataclass(frozen=True)
class ConfiguredScorer(Config, ABC):
    """Base of the scorers. ``name``: by which a task asks for it. ``version``: raised with each
    change that moves a score."""

    name: ClassVar[str]
    version: ClassVar[int] = 1

    @property
    def protocol(self) -> Mapping[str, Any]:
        """JSON."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {"name": self.name, "version": self.version} | {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    @property
    @abstractmethod
    def metrics(self) -> tuple[Metric, ...]: ...

    @abstractmethod
    def score(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]: ...

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        return self.score(sample, output)


@dataclass(frozen=True)
class Combined:
    """Several scorers of the same outputs, their scores side by side: quality and cost, say."""

    scorers: tuple[MetricScorer, ...]

    @property
    def is_costly(self) -> bool:
        """Whether one of them asks a model."""
        return any(getattr(each, "is_costly", False) for each in self.scorers)

    @property
    def protocol(self) -> Mapping[str, Any]:
        return {"name": "combined", "scorers": [dict(each.protocol) for each in self.scorers]}

    @property
    def metrics(self) -> tuple[Metric, ...]:
        return tuple(metric for each in self.scorers for metric in each.metrics)

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        scores: dict[str, float] = {}
        for each in self.scorers:
            more = await each(sample, output)
            twice = next((name for name in more if name in scores), None)
            if twice is not None:
                raise InputError(
                    f"two scorers of one task give the score {twice}",
                    hint="name each scorer once",
                    param="scorer",
                )
            scores |= more
        return scores


Better = Literal["higher", "lower"]


def share(name: str, better: Better = "higher") -> Metric:
    """The share of samples that have a score of 1, the others having 0; named as the score."""
    return Metric(name, (name,), mean_of, better)


def average(name: str, better: Better = "higher", decimals: int = 3) -> Metric:
    """The mean of a score of any size, named as the score."""
    return Metric(name, (name,), mean_of, better, is_share=False, decimals=decimals)


def needed_targets(sample: Sample) -> tuple[str, ...]:
    if not sample.targets:
        raise InputError(
            f"sample {sample.id} has no target",
            hint="this scorer compares texts: give each sample the answers that count as right",
            param="targets",
        )
    return sample.targets


def best_of(measure: Callable[[str, str], float], text: str, targets: Iterable[str]) -> float:
    """The highest ``measure(text, target)``."""
    return max(measure(text, target) for target in targets)


def of_each(rows: Floats, statistic: Callable[[Floats], float]) -> Floats:
    """``statistic`` of each (N, K) of ``rows`` (..., N, K): (...). For what numpy cannot do for all
    resamples at once."""
    tables = rows.reshape(-1, *rows.shape[-2:])
    found = np.array([statistic(table) for table in tables], np.float64)
    return found.reshape(rows.shape[:-2])


def places(name: str, values: Any, most: int = 10_000) -> tuple[int, ...]:
    """A parameter that is a number or several, each from 1, as a tuple; `InputError` else."""
    many = (values,) if isinstance(values, int) else values
    if isinstance(many, str) or not isinstance(many, Sequence) or not many:
        raise InputError(
            f"{name} is {shown(values)}, not a list of numbers", hint="write [1, 10]", param=name
        )
    for value in many:
        check_whole(name, value, 1, most)
    return tuple(sorted(set(many)))
