"""An evaluation that was spread over processes is the one that this process alone makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.evals.tasks import scripted, sums, task_of

from lmstack.core import AuthError, ExtraMissingError, IntegrityError, Request
from lmstack.evals.evaluation_ray import EvaluationWorker, _answer, evaluation_cluster
from lmstack.evals.task import Subject

ROOT = Path(__file__).parents[3]
DIGEST = "sha256:" + "0" * 64


@contextmanager
def opened() -> Iterator[Subject]:
    yield scripted()[0]


def test_a_machine_answers_the_places_that_it_is_given() -> None:
    machine = EvaluationWorker(task_of(sums(6)), opened, DIGEST, {})
    rows = [json.loads(each) for each in machine({"place": [4, 1]})["answer"]]
    machine.close()
    found = [_answer(row) for row in rows]
    assert [(each.place, each.output.text if each.output else "") for each in found] == [
        (4, "5"),
        (1, "1"),
    ]


def test_a_machine_with_another_model_is_refused() -> None:
    machine = EvaluationWorker(task_of(sums(6)), opened, "sha256:another", {})
    [row] = machine({"place": [0]})["answer"]
    with pytest.raises(IntegrityError, match=r"scripted on the machine .* not sha256:another"):
        _answer(json.loads(row))


def test_what_stops_a_machine_is_raised_here_as_it_was() -> None:
    @contextmanager
    def refused() -> Iterator[Subject]:
        def reply(_request: Request) -> str:
            raise AuthError("the key is not valid", hint="set OPENAI_API_KEY")

        yield scripted(reply)[0]

    [row] = EvaluationWorker(task_of(sums(2)), refused, DIGEST, {})({"place": [0]})["answer"]
    with pytest.raises(AuthError, match="not valid") as raised:
        _answer(json.loads(row))
    assert raised.value.hint == "set OPENAI_API_KEY"


def test_the_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ExtraMissingError, match="ray"), evaluation_cluster("local", opened, 1):
        pass


@pytest.mark.long
def test_two_processes_of_ray_give_the_result_of_this_one(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    ran = subprocess.run(
        [sys.executable, "-m", "tests.app.wiring.evaluation_on_demand", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found.pop("refused").startswith("IntegrityError: scripted on the machine")
    assert found.pop("processes") >= 2
    # 20 first, then the other 40 and once more what failed.
    assert found == {
        "equal": True,
        "failures": ["the provider has no answer to this"],
        "part": 20,
        "asked": [20, 41],
    }
