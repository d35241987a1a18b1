"""`lmstack data problems`: two files, and the command that trains on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.app.conftest import Run


def test_problems_are_written_to_two_files_and_the_next_command_names_them(
    run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "my problems.jsonl"
    done = run("data", "problems", "--count", "50", "--operations", "+ *", "-o", str(path))
    assert done.code == 0, done.err
    beside = tmp_path / "my problems.held-out.jsonl"
    rows = [json.loads(line) for file in (path, beside) for line in file.read_text().splitlines()]
    assert len(rows) == 50
    assert {row["prompt"].split()[3] for row in rows} == {"+", "*"}
    assert f"data='{path}' validation='{beside}'" in done.out


def test_what_cannot_be_made_is_said_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    done = run("data", "problems", "--digits", "1", "--operations", "x", "-o", str(path))
    assert done.code == 1
    assert "no operation 'x'" in done.err
    done = run("data", "problems", "--digits", "1", "--count", "5000", "-o", str(path))
    assert done.code == 1
    assert "there are 155 problems" in done.err
    assert not list(tmp_path.iterdir())
