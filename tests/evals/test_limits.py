"""Between which limits the settings of evaluations lie."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.evals.tasks import scripted, sums, task_of
from tests.limits import check_limits

from lmstack.core import SamplingParams, ScriptedModel
from lmstack.evals.conversation import Shots
from lmstack.evals.gate.config import GateRule
from lmstack.evals.judging.rubric import RubricJudge
from lmstack.evals.live import FailureWatch
from lmstack.evals.metrics.retrieval import Retrieval
from lmstack.evals.metrics.windows import rolling_windows, strided_windows
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import run
from lmstack.evals.sequential import quantile_limits
from lmstack.evals.solvers import Generate, SelfConsistency
from lmstack.evals.task import Sample

DRAWN = Generate(SamplingParams(temperature=1.0))
EXAMPLES = (Sample("a", "1 + 1", ("2",)),) * 1025


def ran(**settings: Any) -> None:
    asyncio.run(run(task_of(sums(1)), scripted()[0], **settings))


@pytest.mark.parametrize(
    ("make", "name", "least", "most", "opened"),
    [
        (lambda n: SelfConsistency(DRAWN, n, "x"), "samples", 2, 256, ""),
        (lambda n: RubricJudge(ScriptedModel(), retries=n), "retries", 0, 20, ""),
        (lambda n: Shots(EXAMPLES, n), "shots", 1, 1024, ""),
        (lambda n: rolling_windows(0, n), "max_length", 1, 2**40, ""),
        (lambda n: strided_windows(0, n, 1), "max_length", 2, 2**40, ""),
        (lambda n: strided_windows(0, 2**40, n), "stride", 1, 2**40, ""),
        (lambda n: rolling_windows(9, 4, n), "context", 1, 4, ""),
        (lambda n: Retrieval((n,)), "k", 1, 10_000, ""),
        (lambda x: GateRule("t", margin=0.1, alpha=x), "alpha", 0.0, 0.5, "low high"),
        (lambda x: GateRule("t", margin=0.1, power=x), "power", 0.5, 1.0, "high"),
        (lambda x: FailureWatch(x), "share", 0.0, 1.0, "low high"),
        (lambda x: FailureWatch(0.5, x), "alpha", 0.0, 1.0, "low high"),
        (lambda x: quantile_limits([1.0], x), "share", 0.0, 1.0, "low high"),
        (lambda n: ran(concurrency=n), "concurrency", 1, 4096, ""),
        (lambda n: ran(limit=n), "limit", 1, 1 << 60, ""),
    ],
)
def test_a_setting_has_limits(
    make: Callable[[Any], object], name: str, least: float, most: float, opened: str
) -> None:
    check_limits(make, name, least, most, opened)


def test_a_store_of_outputs_has_limits(tmp_path: Path) -> None:
    def made(size: int) -> None:
        with OutputStore(tmp_path / "outputs.db", max_bytes=size):
            pass

    check_limits(made, "max_bytes", 1 << 16, 1 << 50)
