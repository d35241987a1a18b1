"""What a task asks of a system, told without one."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from lmstack.core import Message, SamplingParams
from lmstack.evals.benchmarks.mt_bench import TwoTurnSolver
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.metrics import make_scorer
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.system_tasks import AskIndex, RunAgent
from lmstack.evals.task import Dataset, Sample, Solver, Task
from lmstack.evals.task_forms import Asked, asks

PLAIN = Sample("1", "How many?", choices=("1", "2"), gold=(0,), metadata={"tools": None})
OWN = Sample("2", (Message("system", "Be brief."), Message("user", "How many?")))
WARM = SamplingParams(temperature=1.0)
TURNS = Sample("3", "", metadata={"turns": ["How many?", "And now?"], "category": "math"})


def task(solver: Solver, *samples: Sample) -> Task:
    scorer = make_scorer("exact_match")
    return Task("asked", Dataset("asked", samples, "here"), solver, scorer, scorer.metrics)


@pytest.mark.parametrize(
    ("solver", "samples", "asked"),
    [
        (Generate(), (PLAIN,), "conversation"),
        (Generate(raw=True), (PLAIN,), "text"),
        (Generate(instruction="Be brief."), (PLAIN,), "text"),
        (Generate(), (OWN,), "text"),
        (Generate(), (OWN, PLAIN), "conversation"),
        (SelfConsistency(Generate(WARM), 3, ".+"), (PLAIN,), "conversation"),
        (TwoTurnSolver(), (TURNS,), "conversation"),
        (MultipleChoice(), (PLAIN,), "likelihoods"),
        (TargetLikelihood(), (PLAIN,), "likelihoods"),
        (AskIndex(), (PLAIN,), "index"),
        (AskIndex(faithfulness=False), (PLAIN,), "index"),
        (RunAgent(), (PLAIN,), "agent"),
        (RunAgent(), (OWN,), "agent"),
    ],
)
def test_what_is_asked_is_known_without_a_model(
    solver: Solver, samples: tuple[Sample, ...], asked: Asked
) -> None:
    found = {each for each in get_args(Asked) if asks(task(solver, *samples), each)}
    assert asked in found
    assert found <= {asked, "text"}  # of a chat each sample may be another


def test_a_sample_that_cannot_be_asked_tells_nothing(tmp_path: Path) -> None:
    raw = Generate(raw=True)  # of a conversation there is no raw text
    assert not any(asks(task(raw, OWN), each) for each in get_args(Asked))
