"""`lmstack eval import` and `export` as a user types them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.app.cli.numbers_task import hardly_trained, write_numbers

if TYPE_CHECKING:
    from tests.app.conftest import Run


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


def test_a_result_that_is_exported_and_imported_is_the_same(run: Run, result: Path) -> None:
    [written] = run("eval", "export", "ours", "-o", "logs", "--json").json
    done = run("eval", "import", written["file"], "-o", "back")
    assert done.code == 0, done.err
    assert done.out.splitlines()[1].split()[-2:] == ["12", "back/numbers.json"]
    assert json.loads(Path("back/numbers.json").read_text()) == json.loads(result.read_text())


def test_a_log_of_inspect_has_the_questions_of_the_task_that_was_run(
    run: Run, result: Path
) -> None:
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


def test_what_cannot_be_imported_is_said_and_nothing_is_written(
    run: Run, result: Path, tmp_path: Path
) -> None:
    [written] = run("eval", "export", "ours", "-o", "logs", "--json").json
    log = written["file"]
    other = tmp_path / "other.json"
    other.write_text("[1]")
    for words, said in (
        ((log, log), "two of the logs are of numbers"),
        ((log, other), "this is no log of inspect_ai: [1]"),
        ((tmp_path / "none.json",), "there is no log"),
        ((tmp_path / "some.eval",), "is a binary log of inspect_ai"),
    ):
        ran = run("eval", "import", *map(str, words), "-o", str(tmp_path / "out"))
        assert ran.code == 1
        assert said in ran.err.splitlines()[0]
    assert not (tmp_path / "out").exists()


def test_a_task_whose_name_is_a_path_stays_in_its_folder(
    run: Run, result: Path, tmp_path: Path
) -> None:
    [written] = run("eval", "export", "ours", "-o", "logs", "--json").json
    log = json.loads(Path(written["file"]).read_text())
    log["eval"]["task"] = "../../arc"
    del log["eval"]["metadata"]
    (tmp_path / "log.json").write_text(json.dumps(log))
    done = run("eval", "import", str(tmp_path / "log.json"), "-o", str(tmp_path / "deep" / "out"))
    assert done.code == 0, done.err
    assert [path.name for path in (tmp_path / "deep" / "out").iterdir()] == ["_.._arc.json"]
