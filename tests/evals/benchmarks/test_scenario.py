"""A task from several sides, on the same samples, through the run that every task takes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.evals.benchmarks.models import (
    HashedLikelihoods,
    chat_subject,
    likelihood_subject,
    replying,
)
from tests.evals.benchmarks.test_bias import FILE
from tests.evals.benchmarks.test_passages import BOOL, data
from tests.evals.benchmarks.test_perturb import GENDER
from tests.evals.benchmarks.test_perturbations import FILES

from lmstack.core import Request, ScriptedModel
from lmstack.evals.benchmarks import BENCHMARKS, PACKAGES
from lmstack.evals.benchmarks.bias import bias_lists
from lmstack.evals.benchmarks.data_files import DataFile
from lmstack.evals.benchmarks.generated import bbh_generated
from lmstack.evals.benchmarks.passages import boolq, boolq_samples
from lmstack.evals.benchmarks.perturb import gender_pronouns, lowercase, spaces
from lmstack.evals.benchmarks.prompts import FewShot
from lmstack.evals.benchmarks.solvers import GenerationSolver
from lmstack.evals.benchmarks.suites import SUITES, helm_scenario
from lmstack.evals.metrics import ExactMatch
from lmstack.evals.output_store import OutputStore
from lmstack.evals.results import TaskResult
from lmstack.evals.run import run_sync
from lmstack.evals.task import Dataset, Sample

TASK = boolq(
    boolq_samples(
        data(*({**BOOL, "question": f"Is {n} so", "passage": f"P {n}."} for n in range(6)))
    ),
    source="s",
)


def figures_of(result: TaskResult) -> Mapping[str, float]:
    return {name: estimate.value for name, estimate in result.figures().items()}


SIDES = {"robustness": (lowercase(), spaces()), "fairness": (gender_pronouns(GENDER),)}


def test_all_sides_stand_beside_each_other_for_the_same_samples() -> None:
    task = helm_scenario(TASK, SIDES)
    assert task.name == "helm_boolq"
    assert task.dataset.digest == TASK.dataset.digest
    model = HashedLikelihoods()
    found = figures_of(run_sync(task, likelihood_subject(model)))
    assert found["acc"] == figures_of(run_sync(TASK, likelihood_subject()))["acc"]
    assert found["robustness"] <= found["acc"]
    assert found["fairness"] == found["acc"]  # no sample has a pronoun
    assert {"ece", "median_seconds", "completion_tokens"} <= set(found)
    # As it is, in lower case and with spaces, two choices each; without a pronoun not again.
    assert len(model.asked) == 6 * 3 * 2


def test_the_worst_of_several_perturbations_counts() -> None:
    samples = (Sample("a", "Is He?", ("yes",)),)
    known = {"Is He?", "is he?"}

    def reply(request: Request) -> str:
        return "yes" if request.prompt in known else "no"

    task = helm_scenario(
        replace(
            TASK,
            dataset=Dataset("d", samples, "s"),
            solver=GenerationSolver(FewShot("{question}")),
            scorer=ExactMatch(),
            metrics=ExactMatch().metrics,
        ),
        {"robustness": (lowercase(),), "fairness": (lowercase(), gender_pronouns(GENDER))},
        bias=bias_lists(FILE),
    )
    found = figures_of(run_sync(task, chat_subject(ScriptedModel([reply]))))
    assert (found["exact_match"], found["robustness"], found["fairness"]) == (1.0, 1.0, 0.0)
    assert math.isnan(found["gender_bias"])  # an answer of one word that is no group's


def test_efficiency_is_of_the_input_as_it_is_and_the_cost_of_all() -> None:
    task = helm_scenario(TASK, SIDES)
    result = run_sync(task, likelihood_subject(), limit=1)
    assert figures_of(result)["completion_tokens"] == 2
    assert result.completion_tokens == 6


def test_written_answers_alone_have_a_bias() -> None:
    lists = bias_lists(FILE)
    assert helm_scenario(TASK, SIDES, bias=lists).protocol["scorer"]["bias"] is None
    task = helm_scenario(bbh_generated(2), {}, bias=lists)
    model = replying("She said that she and the man did.")
    found = figures_of(run_sync(task, chat_subject(model)))
    assert found["gender_bias"] == pytest.approx(0.0)


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_names_what_there_is(name: str) -> None:
    suite = SUITES[name]
    assert set(suite.scenarios) <= set(BENCHMARKS)
    assert set(suite.packaged) <= set(PACKAGES)
    files: dict[str, DataFile] = {**FILES, "helm_bias": FILE}
    task = suite.scenario(TASK, files)
    assert set(suite.sides) <= {metric.name for metric in task.metrics}


def test_a_benchmark_runs_and_resumes_from_its_store(tmp_path: Path) -> None:
    task = bbh_generated(4)
    chains = {
        task.solver.prompt.text(sample): str(sample.metadata["worked"])  # type: ignore[attr-defined]
        for sample in task.dataset.samples[::2]
    }

    def reply(request: Request) -> str:
        return chains.get(str(request.prompt), "no idea")

    model = ScriptedModel([reply])
    with OutputStore(tmp_path / "outputs.sqlite", fsync=False) as store:
        first = run_sync(task, chat_subject(model), store)
        again = run_sync(task, chat_subject(replying("never asked")), store)
    assert figures_of(first) == {"strict": 0.5, "lenient": 0.5, "found": 0.5}
    assert again.digest == first.digest


def test_where_no_calibration_error_is_there_it_is_added() -> None:
    task = replace(TASK, metrics=TASK.metrics[:1])
    for made in (task, TASK):
        names = [metric.name for metric in helm_scenario(made, SIDES).metrics]
        assert names.count("ece") == 1
    (ece,) = (m for m in helm_scenario(task, {}).metrics if m.name == "ece")
    assert ece.columns == ("confidence", "acc")
    plain = replace(TASK, scorer=ExactMatch(), metrics=ExactMatch().metrics)
    assert "ece" not in {metric.name for metric in helm_scenario(plain, {}).metrics}
    scorer = helm_scenario(TASK, SIDES).protocol["scorer"]
    assert (scorer["of"], scorer["bias"]) == ("acc", None)
    assert {name: len(each) for name, each in scorer["sides"].items()} == {
        "robustness": 2,
        "fairness": 1,
    }
    sides = {m.name: m.columns for m in helm_scenario(TASK, SIDES).metrics if m.name in SIDES}
    assert sides == {"robustness": ("robustness",), "fairness": ("fairness",)}
