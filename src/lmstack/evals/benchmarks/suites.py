"""Suites: several scenarios, each from all sides that HELM looks at, shown as one table.

    helm    BoolQ, HellaSwag, MMLU, TruthfulQA MC1 and GSM8K, as far as packages carry their items

HELM's own scenarios and prompts are not these: the sides and their definitions are HELM's, the
tasks are those of `catalog`. Not covered: running a suite, and printing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lmstack.evals.benchmarks.bias import bias_lists
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.packages import PACKAGES, PackagedFile
from lmstack.evals.benchmarks.perturbations import PERTURBATIONS, perturbation_named
from lmstack.evals.benchmarks.scenario import helm_scenario
from lmstack.evals.task import Task

__all__ = ["BIAS_FILE", "SUITES", "Suite"]

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
