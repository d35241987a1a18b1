"""`lmstack eval import` and `export` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.app.cli.numbers_task import hardly_trained, write_numbers
from tests.evals.logs.test_lm_eval import RESULTS, line

if TYPE_CHECKING:
    from tests.app.conftest import Run

STAMP = "2026-01-02T03-04-05.678"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hardly_trained(tmp_path_factory.mktemp("model"))


@pytest.fixture
def result(run: Run, model: Path, home: Path, tmp_path: Path, monkeypatch: Any) -> Path:
    """Of twelve questions, in the folder that the test is in."""
    monkeypatch.chdir(tmp_path)
    write_numbers(tmp_path, 12)
    done = run("eval", "run", "task.yaml", "--model", str(model), "-o", "ours")
    assert done.code == 0, done.err
    return Path("ours/numbers.json")


@pytest.mark.parametrize("program", ["inspect", "lm-eval"])
def test_a_result_that_is_exported_and_imported_is_the_same(
    run: Run, result: Path, program: str
) -> None:
    [written] = run("eval", "export", "ours", "--to", program, "-o", "logs", "--json").json
    done = run("eval", "import", written["files"][0], "-o", "back")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split()[-2:] == ["12", "back/numbers.json"]
    assert json.loads(Path("back/numbers.json").read_text()) == json.loads(result.read_text())


def test_a_log_of_inspect_has_the_questions_of_the_task_that_was_run(
    run: Run, result: Path
) -> None:
    wrong = run("eval", "export", str(result), "--to", "csv", "-o", "no")
    assert (wrong.code, Path("no").exists()) == (1, False)
    assert wrong.err.startswith("error: there are no logs of 'csv'")
    without = run("eval", "export", str(result), "-o", "without")
    assert "its questions are not in the log" in without.err
    done = run("eval", "export", str(result), "--task", "task.yaml", "-o", "with")
    assert (done.code, done.err) == (0, "")
    [file] = Path("with").iterdir()
    assert json.loads(file.read_text())["samples"][3]["input"] == "the cat number 3 sat on the"
    text = Path("task.yaml").read_text()  # its questions are there where its judge is not
    Path("task.yaml").write_text(text.replace("scorer: multiple_choice", "scorer: rubric"))
    assert run("eval", "export", str(result), "--task", "task.yaml", "-o", "judged").err == ""
    write_numbers(Path(), 13)
    changed = run("eval", "export", str(result), "--task", "task.yaml", "-o", "with")
    assert changed.code == 1
    assert changed.err.startswith("error: the questions of task.yaml are sha256:")


def harness(folder: Path, *tasks: str) -> Path:
    """A log of the harness, of ``tasks`` and a group that has no samples."""
    parts = {
        part: dict.fromkeys(tasks, RESULTS[part]["arc"])
        for part in ("results", "configs", "versions", "n-shot", "higher_is_better", "n-samples")
    }
    parts["results"]["group"] = {"alias": "group"}
    path = folder / f"results_{STAMP}.json"
    path.write_text(json.dumps(RESULTS | parts))
    for task in tasks:
        lines = [json.dumps(line(n, acc=float(n % 2))) + "\n" for n in range(3)]
        (folder / f"samples_{task}_{STAMP}.jsonl").write_text("".join(lines))
    return path


def test_all_tasks_of_the_harness_are_taken_or_those_that_are_named(
    run: Run, home: Path, tmp_path: Path
) -> None:
    log = harness(tmp_path, "arc", "boolq")
    found = run("eval", "import", str(log), "-o", str(tmp_path / "all"), "--json").json
    assert [(each["task"], each["samples"]) for each in found] == [("arc", 3), ("boolq", 3)]
    two = run("eval", "compare", *[str(tmp_path / "all" / "arc.json")] * 2)
    assert "No difference" in two.out
    run("eval", "import", str(log), "-o", str(tmp_path / "one"), "--task", "boolq")
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["boolq.json"]


def test_what_cannot_be_imported_is_said_and_nothing_is_written(
    run: Run, home: Path, tmp_path: Path
) -> None:
    log = harness(tmp_path, "arc")
    other = tmp_path / "other.json"
    other.write_text("[1]")
    alone = tmp_path / "results_alone.json"
    alone.write_text(log.read_text())
    for words, said in (
        ((log, "--task", "ark"), "the log has no samples of ark"),
        ((log, log), "two of the logs are of arc"),
        ((log, other), "neither of inspect_ai nor of lm-evaluation-harness"),
        ((alone,), "there are no samples beside"),
        ((tmp_path / "none.json",), "there is no log"),
    ):
        ran = run("eval", "import", *map(str, words), "-o", str(tmp_path / "out"))
        assert ran.code == 1
        assert said in ran.err.splitlines()[0]
    assert not (tmp_path / "out").exists()


def test_a_task_whose_name_is_a_path_stays_in_its_folder(
    run: Run, home: Path, tmp_path: Path
) -> None:
    log = harness(tmp_path, "arc")
    text = log.read_text().replace('"arc"', '"../../arc"')
    log.write_text(text)
    (tmp_path / f"samples_arc_{STAMP}.jsonl").rename(tmp_path / f"samples__.._arc_{STAMP}.jsonl")
    done = run("eval", "import", str(log), "-o", str(tmp_path / "deep" / "out"))
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == ["_.._arc.json"]
