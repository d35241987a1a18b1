"""`lmstack eval` as a user types it, on two tiny models and a task of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.app.cli.numbers_task import write_numbers
from tests.train.runs import MODEL, prepare_folder, recipe

from lmstack.evals import task_data
from lmstack.evals.benchmarks import PACKAGES
from lmstack.evals.likelihood_solvers import MultipleChoice
from lmstack.evals.task import ModelOutput
from lmstack.train import train

if TYPE_CHECKING:
    from tests.app.conftest import Run

WRITTEN = """
name: written
data: numbers.jsonl
input: "the cat number {{n}} sat on the"
targets: n
solver: generate
sampling: {temperature: 0, max_tokens: 3}
scorer: exact_match
"""
GATE = "rules:\n  - {task: numbers, kind: non-inferior, margin: %s}\n"


@pytest.fixture
def folder(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.set_num_threads(1)
    prepare_folder(tmp_path)
    for name, steps in (("one", 1), ("two", 2)):
        train(recipe(tmp_path, name, steps=steps, model=MODEL))
    write_numbers(tmp_path, 40)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_task_is_run_shown_compared_and_gated(run: Run, folder: Path) -> None:
    for name in ("one", "two"):
        done = run("eval", "run", "task.yaml", "--model", f"./{name}-made", "-o", name)
        assert done.code == 0, done.err
        assert "numbers v1" in done.out
        assert "40 samples" in done.out
    shown = run("eval", "show", "one/numbers.json", "--json").json
    figure = shown["figures"]["acc"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert shown["failed"] == 0
    compared = run("eval", "compare", "one/numbers.json", "two/numbers.json", "--json").json
    first = compared["metrics"][0]
    assert first["test"] == "mcnemar"
    assert first["samples"] == 40
    Path("wide.yaml").write_text(GATE % 0.9)
    passed = run("eval", "gate", "two", "--base", "one", "--gate", "wide.yaml")
    assert (passed.code, passed.out.split()[0]) == (0, "PROMOTE:"), passed.err
    Path("narrow.yaml").write_text(GATE % 0.001)
    held = run("eval", "gate", "two", "--base", "one", "--gate", "narrow.yaml")
    assert held.code == 1
    assert held.out.split()[0] in ("HOLD:", "REJECT:")


def test_a_second_run_asks_nothing_again_and_says_the_same(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("eval", "run", "task.yaml", "--model", "./one-made", "--json")
    first = run(*words)

    async def asked(*_: object) -> ModelOutput:
        raise AssertionError("it was asked again")

    monkeypatch.setattr(MultipleChoice, "__call__", asked)
    second = run(*words)
    assert first.json[0]["figures"] == second.json[0]["figures"]
    assert second.json[0]["failed"] == 0


def test_what_a_run_would_take_is_told_beforehand(run: Run, folder: Path) -> None:
    Path("task.yaml").write_text(WRITTEN)
    words = ("eval", "run", "task.yaml", "--model", "./one-made", "--at-once", "5")
    [found] = run(*words, "--dry-run", "--price", "1000,2000", "--json").json
    assert (found["samples"], found["kept"], found["left"]) == (40, 5, 35)
    tokens = found["prompt_tokens"] + 2 * found["completion_tokens"]
    assert found["cost"] == pytest.approx(tokens / 1000)
    told = run(*words, "--dry-run", "-o", "nowhere")
    assert told.out.splitlines()[1].split()[:3] == ["written", "40", "10"]  # five more were asked
    assert not Path("nowhere").exists()
    both = run("eval", "run", "task.yaml", "task.yaml", *words[3:], "--dry-run").out
    assert both.splitlines()[3].split()[:4] == ["in", "all", "80", "35"]
    without = run(*words, "--price", "1,1")
    assert (without.code, without.err.splitlines()[0][:18]) == (1, "error: --price is ")
    for wrong in (("--price", "1"), ("--ray", "local")):
        ran = run(*words, "--dry-run", *wrong)
        assert ran.code == 1
        assert ran.err.startswith(f"error: {'--dry-run' if 'local' in wrong else '--price is'}")


def test_a_model_of_the_store_has_its_results_in_its_card(run: Run, folder: Path) -> None:
    pulled = run("pull", "./one-made", "--json").json[0]
    words = ("eval", "run", "task.yaml", "--model", "one-made", "--json")
    [first] = run(*words, "--limit", "9").json
    assert (first["asked"], first["dataset"]["samples"], first["failed"]) == (9, 40, 0)
    [ran] = run(*words).json
    found = run("model", "inspect", "one-made", "--json").json
    assert found["digest"] == pulled["digest"]
    part, whole = found["evaluation"]["tasks"]
    assert (part["samples"], part["partial"]) == (9, True)
    assert (whole["value"], whole["partial"]) == (ran["figures"]["acc"]["value"], False)
    shown = run("model", "inspect", "one-made").out
    assert "the first 9 of 40 samples" in shown
    assert "40 samples" in shown.replace("the first 9 of 40 samples", "")
    assert "numbers" in run("model", "list").out


def test_a_gate_passes_nothing_that_it_lacks(run: Run, folder: Path) -> None:
    Path("gate.yaml").write_text(GATE % 0.1)
    Path("empty").mkdir()
    run("eval", "run", "task.yaml", "--model", "./one-made", "-o", "whole", "--json")
    missing = run("eval", "gate", "empty", "--base", "whole", "--gate", "gate.yaml")
    assert missing.code == 1
    assert "has no result of numbers" in missing.err
    alone = run("eval", "gate", "whole", "--gate", "gate.yaml")
    assert "--base FOLDER" in alone.err
    run("eval", "run", "task.yaml", "--model", "./two-made", "--limit", "9", "-o", "part", "--json")
    part = run("eval", "gate", "part", "--base", "whole", "--gate", "gate.yaml")
    assert part.code == 1
    assert "PROMOTE" not in part.out
    Path("numbers.jsonl").write_text('{"n": 1, "endings": [" mat", " dog"], "right": 0}\n')
    run("eval", "run", "task.yaml", "--model", "./two-made", "-o", "other", "--json")
    other = run("eval", "gate", "other", "--base", "whole", "--gate", "gate.yaml")
    assert other.code == 1
    assert "data" in other.err


def test_what_is_wrong_with_a_call_is_said(run: Run, folder: Path) -> None:
    assert "did you mean hellaswag?" in run("eval", "run", "helaswag").err
    assert "lmstack eval fetch hellaswag" in run("eval", "run", "hellaswag").err
    assert "--file test=questions.jsonl" in run("eval", "run", "mmlu", "--file", "x").err
    Path("broken.json").write_text("{")
    assert "cannot be read as a result" in run("eval", "show", "broken.json").err
    Path("gate.yaml").write_text("rules:\n  - {task: numbers, kind: non-inferior, margn: 1}\n")
    assert "margin" in run("eval", "gate", "one", "--base", "one", "--gate", "gate.yaml").err


def test_the_list_says_where_data_come_from(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def states() -> dict[str, str]:
        return {row["name"]: row["data"] for row in run("eval", "list", "--json").json}

    before = states()
    assert (before["hellaswag"], before["bbh"]) == ("fetch", "bring")
    assert before["bbh_generated"] == "generated"
    path = task_data._path(PACKAGES["hellaswag"])
    path.parent.mkdir(parents=True)
    path.write_text("{}\n")
    assert states()["hellaswag"] == "here"


def test_results_are_not_promised_where_they_cannot_be_written(run: Run, folder: Path) -> None:
    Path("taken").write_text("a file")
    done = run("eval", "run", "task.yaml", "--model", "./one-made", "--output", "taken")
    assert done.code == 1
    assert "making taken failed" in done.err
    assert "Traceback" not in done.err
