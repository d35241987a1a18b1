"""What a run reports, and which of two values is the better one.

An objective declares each of its metrics (`Objective.metrics`), a reward its own, so that a metric
by which checkpoints are compared is known to be one, with its direction, before any data is read.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lmstack.core import InputError, nearest, shown

__all__ = [
    "ACCURACY",
    "LOSS",
    "Stage",
    "TrainingMetric",
    "falling",
    "metric_named",
    "rising",
    "watched",
]

Stage = Literal["step", "evaluation", "both"]


@dataclass(frozen=True)
class TrainingMetric:
    """``higher_is_better``: None where neither is, so that nothing is compared by it. ``stage``:
    whether steps report it, evaluations, or both."""

    name: str
    higher_is_better: bool | None
    stage: Stage = "both"

    def is_better(self, value: float, than: float | None) -> bool:
        """Whether ``value`` is a number, and better than the number ``than``, if there is one."""
        if not math.isfinite(value) or self.higher_is_better is None:
            return False
        if than is None or not math.isfinite(than):
            return True
        return value > than if self.higher_is_better else value < than


def rising(*names: str, stage: Stage = "both") -> tuple[TrainingMetric, ...]:
    """Metrics of which more is better."""
    return tuple(TrainingMetric(name, True, stage) for name in names)


def falling(*names: str, stage: Stage = "both") -> tuple[TrainingMetric, ...]:
    """Metrics of which less is better."""
    return tuple(TrainingMetric(name, False, stage) for name in names)


def watched(*names: str, stage: Stage = "both") -> tuple[TrainingMetric, ...]:
    """Metrics that are neither better high nor low."""
    return tuple(TrainingMetric(name, None, stage) for name in names)


LOSS, ACCURACY = *falling("loss"), *rising("accuracy")


def metric_named(name: str, declared: Sequence[TrainingMetric], objective: str) -> TrainingMetric:
    """That of ``declared`` by which evaluations can be compared; `InputError` names the nearest.
    ``objective``: the name of the one that declared them."""
    found = next((metric for metric in declared if metric.name == name), None)
    fit = [metric.name for metric in declared if _compares(metric)]
    if found is not None and _compares(found):
        return found
    if found is None:
        guess = nearest(name, fit)
        why = f"the objective has {', '.join(fit)}"
        hint = f"did you mean {guess!r}?" if guess else f"metric={fit[0]}"
    else:
        why = (
            f"{objective} reports it of steps, and checkpoints are compared by evaluations"
            if found.stage == "step"
            else "neither more nor less of it is better"
        )
        hint = f"one of {', '.join(fit)}"
    raise InputError(f"metric is {shown(name)}; {why}", hint=hint, param="metric")


def _compares(metric: TrainingMetric) -> bool:
    return metric.stage != "step" and metric.higher_is_better is not None
