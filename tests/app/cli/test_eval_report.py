"""`lmstack eval report` as a user types it, on results that are written down."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.app.page.evaluation_results import digest, made_result

if TYPE_CHECKING:
    from tests.app.conftest import Run

GATE = "rules:\n  - {task: gsm8k, margin: 0.9}\n  - {task: boolq, margin: 0.9}\n"


def write(folder: str, *results: Any) -> None:
    Path(folder).mkdir()
    for each in results:
        (Path(folder) / f"{each.task}.json").write_text(json.dumps(each.to_json()))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, ability in (("before", 0.0), ("after", 0.6)):
        tasks = [made_result(task, name, ability, samples=30) for task in ("gsm8k", "boolq")]
        write(name, *tasks)
    Path("gate.yaml").write_text(GATE)


def test_a_page_of_two_models_with_the_gates_verdict(run: Run) -> None:
    done = run("eval", "report", "after", "--base", "before", "--gate", "gate.yaml", "-o", "r.html")
    assert done.code == 0, done.err
    assert "after: PROMOTE" in done.out
    text = Path("r.html").read_text()
    assert "<h1>before and after</h1>" in text
    assert "PROMOTE" in text
    again = run("eval", "report", "before/gsm8k.json", "after/gsm8k.json", "-o", "r.html", "--json")
    assert again.json["base"] == "before"
    assert again.json["tasks"] == ["gsm8k"]
    assert again.json["gate"] == {}


def test_where_the_gate_cannot_decide_the_page_says_why(run: Run) -> None:
    Path("after/boolq.json").unlink()
    words = ("eval", "report", "after", "--base", "before", "--gate", "gate.yaml", "--json")
    assert "no result of boolq" in run(*words).json["gate"]["after"]
    alone = run("eval", "report", "after", "--gate", "gate.yaml", "--json").json
    assert "compares with what is in production" in alone["gate"]["after"]
    assert "no verdict" in Path("report.html").read_text()


def test_what_cannot_be_shown_is_an_error_and_no_page(run: Run) -> None:
    Path("empty").mkdir()
    assert "has no results" in run("eval", "report", "empty").err
    assert "there is no file" in run("eval", "report", "nowhere.json").err
    Path("after/notes.json").write_text('{"format": "notes"}')
    wrong = run("eval", "report", "after")
    assert "after/notes.json" in wrong.err
    assert "no result of a task" in wrong.err
    write("twice", made_result("gsm8k", "after", -2.0, samples=30, subject_digest=digest("after")))
    twice = run("eval", "report", "after/gsm8k.json", "twice")
    assert "two results of gsm8k for after" in twice.err
    Path("gate.yaml").write_text("rules:\n  - {task: gsm8k, margn: 1}\n")
    assert "margin" in run("eval", "report", "before", "--gate", "gate.yaml").err
    assert not Path("report.html").exists()
