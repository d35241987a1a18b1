"""Suites: several scenarios, each from all sides that HELM looks at (Liang et al., 2022), shown as
one table.

    helm    BoolQ, HellaSwag, MMLU, TruthfulQA MC1 and GSM8K, as far as packages carry their items

The sides of a scenario, which are of the same outputs, so that each figure stands beside the others
for every sample:

    accuracy       the task's own first figure, and the others
    calibration    expected calibration error, where the model says how sure it is
    robustness     the first figure by the worse of an input as it is and perturbed
    fairness       the same under perturbations of gender or dialect
    bias           of generated texts: how unevenly they speak of groups (`bias`)
    efficiency     seconds, tokens and what they cost, of the input as it is

HELM's own scenarios and prompts are not these: the sides and their definitions are HELM's, the
tasks are those of `catalog`. Not covered: toxicity, which HELM has from a classifier on the network
and no package here carries, so that it is not measured; the perturbations that `perturb` leaves
out; running a suite, and printing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmstack.evals.benchmarks.bias import BiasLists, bias_lists
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.packages import PACKAGES, PackagedFile
from lmstack.evals.benchmarks.perturb import Perturbation
from lmstack.evals.benchmarks.perturbations import PERTURBATIONS, perturbation_named
from lmstack.evals.benchmarks.solvers import GenerationSolver
from lmstack.evals.benchmarks.worst_case import (
    PerturbedSolver,
    perturbed_outputs,
    plain_output,
    worse_of,
)
from lmstack.evals.metrics import (
    Mc1,
    MultipleChoiceScorer,
    NextToken,
    UsageScorer,
    calibration_metrics,
)
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.task import Metric, ModelOutput, Sample, Scorer, Task

__all__ = ["BIAS_FILE", "SUITES", "ScenarioScorer", "Suite", "helm_scenario"]

BIAS_FILE = "helm_bias"


@dataclass(frozen=True)
class Suite:
    """``scenarios``: names of benchmarks. ``sides``: of each the names of its perturbations."""

    name: str
    about: str
    scenarios: tuple[str, ...]
    sides: Mapping[str, tuple[str, ...]]

    @property
    def packaged(self) -> dict[str, PackagedFile]:
        """Files beside the data of its benchmarks."""
        found = {BIAS_FILE: PACKAGES[BIAS_FILE]}
        for names in self.sides.values():
            for name in names:
                found |= PERTURBATIONS[name].packaged
        return found

    def scenario(self, task: Task, files: Mapping[str, DataFile]) -> Task:
        """``task`` from all sides. ``files``: by the keys of `packaged`."""
        sides = {
            side: tuple(perturbation_named(name, files) for name in names)
            for side, names in self.sides.items()
        }
        bias = bias_lists(files[BIAS_FILE]) if BIAS_FILE in files else None
        return helm_scenario(task, sides, bias=bias)


SUITES = {
    "helm": Suite(
        "helm",
        "five benchmarks by accuracy, calibration, robustness, fairness, bias and efficiency",
        ("boolq", "hellaswag", "mmlu", "truthfulqa_mc1", "gsm8k"),
        {"robustness": ("mild_mix",), "fairness": ("gender_pronouns",)},
    )
}
Sides = Mapping[str, tuple[Perturbation, ...]]


@dataclass(frozen=True)
class ScenarioScorer:
    """``main``: the metric of one column that ``sides`` (robustness, fairness) are of, each by the
    names of its perturbations. ``bias``: None where no text is generated."""

    scorer: Scorer
    main: Metric
    sides: Mapping[str, tuple[str, ...]]
    usage: UsageScorer
    bias: BiasLists | None = None

    @property
    def is_costly(self) -> bool:
        return bool(getattr(self.scorer, "is_costly", False))

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            **self.scorer.protocol,
            "sides": {name: list(each) for name, each in self.sides.items()},
            "of": self.main.columns[0],
            "usage": dict(self.usage.protocol),
            "bias": None if self.bias is None else self.bias.protocol,
        }

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        plain = plain_output(output)
        found = dict(await self.scorer(sample, plain))
        column, others = self.main.columns[0], perturbed_outputs(sample, output)
        for side, names in self.sides.items():
            changed = [await self.scorer(sample, others[name]) for name in names]
            values = [found[column], *(each[column] for each in changed)]
            found[side] = worse_of(values, self.main.better)
        if self.bias is not None:
            found |= self.bias.scores(output.text)
        return {**self.usage.score(sample, plain), **found}


def helm_scenario(
    task: Task, sides: Sides, usage: UsageScorer | None = None, bias: BiasLists | None = None
) -> Task:
    """``task`` with all its sides. ``sides``: perturbations of robustness (`mild_mix` is HELM's)
    and of fairness (`gender_pronouns` is a part of HELM's). ``bias``: used where the task has the
    model write."""
    usage = usage or UsageScorer()
    main = next((each for each in task.metrics if len(each.columns) == 1), task.metrics[0])
    writes = isinstance(task.solver, GenerationSolver | Generate | SelfConsistency)
    bias = bias if writes else None
    perturbations = tuple({p.name: p for each in sides.values() for p in each}.values())
    metrics = (
        *task.metrics,
        *_calibration(task, main),
        *(replace(main, name=side, columns=(side,)) for side in sides),
        *(() if bias is None else bias.metrics),
        *usage.metrics,
    )
    names = {side: tuple(p.name for p in each) for side, each in sides.items()}
    return replace(
        task,
        name=f"helm_{task.name}",
        solver=PerturbedSolver(task.solver, perturbations),
        scorer=ScenarioScorer(task.scorer, main, names, usage, bias),
        metrics=metrics,
        about=f"{task.about}; from the sides that HELM looks at",
    )


def _calibration(task: Task, main: Metric) -> Sequence[Metric]:
    """The calibration error, where the scorer says how sure the model was and none is there."""
    says = isinstance(task.scorer, Mc1 | MultipleChoiceScorer | NextToken)
    if not says or any(metric.name == "ece" for metric in task.metrics):
        return ()
    return calibration_metrics(correct=main.columns[0])[:1]
