"""`lmstack data report`: what a run would make of files, and what a run keeps of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from tests.train.runs import prepare_folder, recipe

from lmstack.core import InputError
from lmstack.train import train

if TYPE_CHECKING:
    from tests.app.conftest import Run


@pytest.fixture
def folder(tmp_path: Path, home: Path) -> Path:
    torch.set_num_threads(1)
    prepare_folder(tmp_path)
    train(recipe(tmp_path, "base", steps=1))
    return tmp_path


def test_rows_reasons_copies_and_the_template_are_told(folder: Path, run: Run) -> None:
    data = folder / "chat.jsonl"
    long = {"instruction": "cat " * 60, "output": "dog"}
    more = [
        {"prompt": "write to jo@example.org", "completion": "dog"},
        {"prompt": "Write to JO@example.org", "completion": "dog "},
        {"text": "no conversation"},
    ]
    with data.open("a") as file:
        file.write("\n" + "\n".join(map(json.dumps, [*more, long])) + "\n{broken\x1b[31m\n")
    base = str(folder / "base-made")
    words = ("data", "report", str(data), "--base", base, "--max-length", "48")
    picture = folder / "lengths.png"
    done = run(*words, "--output", str(picture))
    assert done.code == 0, done.err
    lines = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in done.out.splitlines()}
    assert lines["rows"] == "65"
    assert lines["exact copies"] == "1"
    assert lines["with e-mail"] == "2"
    assert "\x1b" not in done.out
    assert f"{data}:65: not JSON" in done.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    found = run(*words, "--json").json
    assert found["bad_rows"] == 3  # of the long one no answer is left
    assert sum(found["reasons"].values()) == 3
    assert found["exact_copies"] == 1
    assert found["personal"] == {"email": 2}
    assert found["files"][0]["bytes"] == data.stat().st_size
    assert {finding["severity"] for finding in found["template"]} <= {"note", "warn", "fail"}
    assert found["template"]


def test_what_cannot_be_done_is_said_first(folder: Path, run: Run) -> None:
    base = str(folder / "base-made")
    done = run("data", "report", str(folder / "none.jsonl"), "--base", base)
    assert (done.code, "there is no data at" in done.err) == (1, True)
    done = run("data", "report", str(folder / "text.jsonl"), "--base", base)
    assert "none of the 60 rows" in done.err
    assert "the objective reads chat, instruction" in done.err
    done = run("data", "report", "x.jsonl", "--output", "x.gif")
    assert "names no kind of picture" in done.err


def test_a_run_keeps_the_report_and_names_the_file_that_changed(folder: Path) -> None:
    report = json.loads((folder / "base/data.json").read_text())
    assert report["rows"] == 60
    assert report["examples"] + report["validation"] == 60
    data = folder / "text.jsonl"
    data.write_text(data.read_text() + '\n{"text": "one more"}')
    with pytest.raises(InputError, match=r"text\.jsonl changed since the run began"):
        train(recipe(folder, "base", steps=2), resume=True)
