"""A task asked twice, as it is and with its inputs perturbed, scored by the worse of the two, as
HELM has robustness and fairness.

For each score of the task, say ``acc``, a row has ``acc`` of the worse, ``before_acc`` of the task
as it is and ``perturbed_acc``. So the cost of a perturbation is a paired difference on the same
samples. Not covered: how texts are perturbed (`perturb`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lmstack.core import InputError, Likelihood
from lmstack.evals.benchmarks.perturb import Perturbation, perturbed_sample
from lmstack.evals.dataset import Sample
from lmstack.evals.estimating import PromptingSolver
from lmstack.evals.task import Output, Scorer, Solver, Subject, Task

__all__ = ["WorstCaseScorer", "WorstCaseSolver", "worst_case"]

_PERTURBED = "perturbed"


@dataclass(frozen=True)
class WorstCaseSolver:
    """The output of ``solver`` for the sample; that for the perturbed one is in its facts."""

    solver: Solver
    perturbation: Perturbation

    @property
    def protocol(self) -> dict[str, Any]:
        return {**self.solver.protocol, "perturbation": self.perturbation.protocol}

    def prompt_text(self, sample: Sample) -> str:
        """Both prompts, one after the other; of a solver that says none, the inputs."""
        changed = perturbed_sample(sample, self.perturbation)
        both = (sample,) if changed == sample else (sample, changed)
        if isinstance(self.solver, PromptingSolver):
            return "".join(map(self.solver.prompt_text, both))
        return "".join(each.text for each in both)

    async def __call__(self, sample: Sample, subject: Subject) -> Output:
        plain = await self.solver(sample, subject)
        changed = perturbed_sample(sample, self.perturbation)
        if changed == sample:  # nothing in it to change: not asked twice
            return replace(plain, facts={**plain.facts, _PERTURBED: _to_json(plain)})
        other = await self.solver(changed, subject)
        return replace(
            plain,
            prompt_tokens=plain.prompt_tokens + other.prompt_tokens,
            completion_tokens=plain.completion_tokens + other.completion_tokens,
            seconds=plain.seconds + other.seconds,
            facts={**plain.facts, _PERTURBED: _to_json(other)},
        )


@dataclass(frozen=True)
class WorstCaseScorer:
    """``better``: of each score, whether higher or lower is; scores that are not named are given
    as they are, of the plain input alone."""

    scorer: Scorer
    better: Mapping[str, str]

    @property
    def is_costly(self) -> bool:
        return bool(getattr(self.scorer, "is_costly", False))

    @property
    def protocol(self) -> dict[str, Any]:
        return {**self.scorer.protocol, "worst_case_of": dict(self.better)}

    async def __call__(self, sample: Sample, output: Output) -> Mapping[str, float]:
        other = output.facts.get(_PERTURBED)
        if other is None:
            raise InputError(
                f"the output of {sample.id} has none for the perturbed input",
                hint="ask by a WorstCaseSolver",
                param="facts",
            )
        plain = await self.scorer(sample, output)
        changed = await self.scorer(sample, _of_json(other))
        found = dict(plain)
        for name, better in self.better.items():
            worse = min if better == "higher" else max
            pair = plain[name], changed[name]
            found[name] = math.nan if any(map(math.isnan, pair)) else worse(pair)
            found[f"before_{name}"], found[f"perturbed_{name}"] = pair
        return found


def worst_case(task: Task, perturbation: Perturbation) -> Task:
    """``task`` under ``perturbation``: its metrics of one column by the worse of the two, each with
    its twin before, as HELM names it; figures of several columns are left out."""
    kept = [metric for metric in task.metrics if len(metric.columns) == 1]
    if not kept:
        raise InputError(f"{task.name} has no metric that is a mean over samples", param="task")
    metrics = []
    for metric in kept:
        before = f"before_{metric.columns[0]}"
        metrics += [metric, replace(metric, name=f"before_{metric.name}", columns=(before,))]
    better = {metric.columns[0]: metric.better for metric in kept}
    return replace(
        task,
        name=f"{task.name}_{perturbation.name}",
        solver=WorstCaseSolver(task.solver, perturbation),
        scorer=WorstCaseScorer(task.scorer, better),
        metrics=tuple(metrics),
        about=f"{task.about}; the worse of the input as it is and under {perturbation.name} (HELM)",
    )


def _to_json(output: Output) -> dict[str, Any]:
    return {
        "text": output.text,
        "likelihoods": [[e.logprob, e.num_tokens, e.is_greedy] for e in output.likelihoods],
        "facts": dict(output.facts),
    }


def _of_json(found: Mapping[str, Any]) -> Output:
    likelihoods = tuple(Likelihood(float(a), int(b), bool(c)) for a, b, c in found["likelihoods"])
    return Output(str(found["text"]), likelihoods, facts=found["facts"])
