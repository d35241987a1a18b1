"""A task asked as it is and with its inputs perturbed, scored by the worse, as HELM has robustness
and fairness.

For each score of the task, say ``acc``, a row has ``acc`` of the worse, ``before_acc`` of the task
as it is and ``perturbed_acc``. So the cost of a perturbation is a paired difference on the same
samples. Not covered: how texts are perturbed (`perturb`), and all sides of a task (`suites`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmstack.core import InputError, Likelihood
from lmstack.evals.benchmarks.perturb import Perturbation, perturbed_sample
from lmstack.evals.task import ModelOutput, Sample, Scorer, Solver, Subject, Task

__all__ = [
    "PerturbedSolver",
    "WorstCaseScorer",
    "perturbed_outputs",
    "plain_output",
    "worse_of",
    "worst_case",
]

_PERTURBED, _PLAIN = "perturbed", "plain_usage"


@dataclass(frozen=True)
class PerturbedSolver:
    """The output of ``solver`` for the sample; those for the perturbed ones are in its facts, by
    the perturbation's name, and what the first alone took. Tokens and seconds are of all."""

    solver: Solver
    perturbations: tuple[Perturbation, ...]

    @property
    def protocol(self) -> dict[str, Any]:
        perturbed = [each.protocol for each in self.perturbations]
        return {**self.solver.protocol, "perturbations": perturbed}

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        plain = await self.solver(sample, subject)
        outputs, asked = {}, [plain]
        for perturbation in self.perturbations:
            changed = perturbed_sample(sample, perturbation)
            other = plain  # where there is nothing in it to change: not asked twice
            if changed != sample:
                other = await self.solver(changed, subject)
                asked.append(other)
            outputs[perturbation.name] = _to_json(other)
        usage = [plain.prompt_tokens, plain.completion_tokens, plain.seconds]
        return replace(
            plain,
            prompt_tokens=sum(each.prompt_tokens for each in asked),
            completion_tokens=sum(each.completion_tokens for each in asked),
            seconds=sum(each.seconds for each in asked),
            facts={**plain.facts, _PERTURBED: outputs, _PLAIN: usage},
        )


def perturbed_outputs(sample: Sample, output: ModelOutput) -> dict[str, ModelOutput]:
    """Those for the perturbed sample, by the perturbation's name."""
    found = output.facts.get(_PERTURBED)
    if found is None:
        raise InputError(
            f"the output of {sample.id} has none for the perturbed input",
            hint="ask by a PerturbedSolver",
            param="facts",
        )
    return {name: _of_json(each) for name, each in found.items()}


def plain_output(output: ModelOutput) -> ModelOutput:
    """``output`` with the tokens and seconds of the input as it is alone."""
    prompt, completion, seconds = output.facts[_PLAIN]
    return replace(
        output, prompt_tokens=prompt, completion_tokens=completion, seconds=float(seconds)
    )


def worse_of(values: Sequence[float], better: str) -> float:
    """The lowest where ``better`` is higher, else the highest; NaN where one is."""
    if any(map(math.isnan, values)):
        return math.nan
    return min(values) if better == "higher" else max(values)


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

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        (other,) = perturbed_outputs(sample, output).values()
        plain = await self.scorer(sample, output)
        changed = await self.scorer(sample, other)
        found = dict(plain)
        for name, better in self.better.items():
            pair = plain[name], changed[name]
            found[name] = worse_of(pair, better)
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
        solver=PerturbedSolver(task.solver, (perturbation,)),
        scorer=WorstCaseScorer(task.scorer, better),
        metrics=tuple(metrics),
        about=f"{task.about}; the worse of the input as it is and under {perturbation.name} (HELM)",
    )


def _to_json(output: ModelOutput) -> dict[str, Any]:
    return {
        "text": output.text,
        "likelihoods": [[e.logprob, e.num_tokens, e.is_greedy] for e in output.likelihoods],
        "facts": dict(output.facts),
    }


def _of_json(found: Mapping[str, Any]) -> ModelOutput:
    likelihoods = tuple(Likelihood(float(a), int(b), bool(c)) for a, b, c in found["likelihoods"])
    return ModelOutput(str(found["text"]), likelihoods, facts=found["facts"])
