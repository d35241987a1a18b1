"""One task seen from several sides, as HELM sees its scenarios (Liang et al., 2022):

    accuracy, calibration   the task's own figures
    efficiency              seconds, tokens and what they cost
    robustness, fairness    the worse of an input as it is and perturbed, beside the first

Each side is a task on the same samples, so that what a perturbation costs is a paired difference.
Not covered: bias and toxicity of generated text, which need word lists and a classifier, and the
perturbations that `perturb` leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmstack.evals.benchmarks.perturb import Perturbation
from lmstack.evals.benchmarks.worst_case import worst_case
from lmstack.evals.dataset import Sample
from lmstack.evals.metrics import Usage
from lmstack.evals.task import Output, Scorer, Task

__all__ = ["UsageScorer", "helm_scenario", "with_usage"]


@dataclass(frozen=True)
class UsageScorer:
    """The scores of ``scorer`` and, beside them, those of ``usage``."""

    scorer: Scorer
    usage: Usage

    @property
    def is_costly(self) -> bool:
        return bool(getattr(self.scorer, "is_costly", False))

    @property
    def protocol(self) -> dict[str, Any]:
        return {**self.scorer.protocol, "usage": dict(self.usage.protocol)}

    async def __call__(self, sample: Sample, output: Output) -> Mapping[str, float]:
        return {**self.usage.score(sample, output), **await self.scorer(sample, output)}


def with_usage(task: Task, usage: Usage | None = None) -> Task:
    """``task`` with figures of its seconds, tokens and, at the prices of ``usage``, its cost."""
    usage = usage or Usage()
    return replace(
        task, scorer=UsageScorer(task.scorer, usage), metrics=(*task.metrics, *usage.metrics)
    )


def helm_scenario(
    task: Task, perturbations: Sequence[Perturbation], usage: Usage | None = None
) -> tuple[Task, ...]:
    """``task`` with what it costs, and once more for each of ``perturbations`` (`mild_mix` is
    HELM's robustness, `gender_pronouns` a part of its fairness)."""
    worse = (worst_case(task, perturbation) for perturbation in perturbations)
    return (with_usage(task, usage), *worse)
