"""A task from several sides, on the same samples, through the run that every task takes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.evals.benchmarks.models import chat_subject, likelihood_subject, replying
from tests.evals.benchmarks.test_passages import BOOL, data

from lmstack.core import Request, ScriptedModel
from lmstack.evals.benchmarks.generated import bbh_generated
from lmstack.evals.benchmarks.passages import boolq, boolq_samples
from lmstack.evals.benchmarks.perturb import lowercase, spaces
from lmstack.evals.benchmarks.scenario import helm_scenario, with_usage
from lmstack.evals.estimating import PromptingSolver
from lmstack.evals.metrics import Usage
from lmstack.evals.output_store import OutputStore
from lmstack.evals.results import TaskResult
from lmstack.evals.run import run_sync

TASK = boolq(
    boolq_samples(
        data(*({**BOOL, "question": f"Is {n} so", "passage": f"P {n}."} for n in range(6)))
    ),
    source="s",
)


def figures_of(result: TaskResult) -> Mapping[str, float]:
    return {name: estimate.value for name, estimate in result.figures().items()}


def test_each_side_is_a_task_on_the_same_samples() -> None:
    sides = helm_scenario(TASK, (lowercase(), spaces()))
    assert [side.name for side in sides] == ["boolq", "boolq_lowercase", "boolq_spaces_3"]
    assert {side.dataset.digest for side in sides} == {TASK.dataset.digest}
    assert len({str(side.protocol) for side in sides}) == 3


def test_the_worse_of_both_is_never_above_either() -> None:
    (side,) = helm_scenario(TASK, (lowercase(),))[1:]
    found = figures_of(run_sync(side, likelihood_subject()))
    assert found["acc"] <= found["before_acc"]


def test_what_a_task_costs_stands_beside_its_figures() -> None:
    task = with_usage(TASK, Usage(completion_price=1e6))
    found = figures_of(run_sync(task, likelihood_subject()))
    assert {"acc", "ece", "median_seconds", "completion_tokens", "cost"} <= set(found)
    assert found["completion_tokens"] == 2  # a token for no and one for yes
    assert found["cost"] == pytest.approx(2)


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


def test_every_solver_says_what_it_will_send() -> None:
    for task in (TASK, bbh_generated(1), *helm_scenario(TASK, (lowercase(),))):
        solver = task.solver
        assert isinstance(solver, PromptingSolver)
        sample = task.dataset.samples[0]
        assert sample.text.split()[-1].lower() in solver.prompt_text(sample).lower()
