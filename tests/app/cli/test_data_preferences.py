"""`lmstack data preferences`: what is said of pairs and ratings, and what is written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.app.conftest import Run


def rows(folder: Path, rows: list[dict[str, Any]], name: str) -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ratings(folder: Path) -> Path:
    found: list[dict[str, Any]] = [
        {"prompt": f"ask {n}", "completions": ["long answer " * 3, "short"], "ratings": [5, n % 3]}
        for n in range(30)
    ]
    again = {"prompt": "ask 1\x1b[31m", "chosen": "a", "rejected": "b@c.org"}
    return rows(folder, [*found, again, again, {"prompt": "x"}], "ratings.jsonl")


def test_ratings_become_pairs_on_two_sides_and_the_report_names_the_bias(
    tmp_path: Path, run: Run
) -> None:
    file, output, picture = ratings(tmp_path), tmp_path / "pairs.jsonl", tmp_path / "pairs.png"
    words = ("data", "preferences", str(file), "--output", str(output))
    done = run(*words, "--validation", "0.3", "--picture", str(picture))
    assert done.code == 0, done.err
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in done.out.splitlines()}
    assert said["pairs"] == "32 of 31 prompts"
    assert said["exact copies"] == f"1, {file}:32"
    assert said["fit to train on"] == "31"
    assert said["longer is chosen"].startswith("96.8% of the time")
    assert said["longer is chosen"].endswith("a bias")
    assert said["with email"] == "2"
    assert "\x1b" not in done.out
    assert picture.read_bytes().startswith(b"\x89PNG")
    held = tmp_path / "pairs.validation.jsonl"
    written = [
        json.loads(line) for path in (output, held) for line in path.read_text().splitlines()
    ]
    assert len(written) == 31
    assert 3 <= len(held.read_text().splitlines()) <= 17
    assert {row.get("margin") for row in written} == {None, 3.0, 4.0, 5.0}
    report = run("data", "preferences", str(output), str(held), "--json").json
    assert (report["pairs"], report["bad_rows"], report["length"]["low"] > 0.5) == (31, 0, True)


def test_evaluation_items_are_kept_out_unless_told_otherwise(tmp_path: Path, run: Run) -> None:
    held = rows(tmp_path, [{"question": "Which of the two roofs is older?"}], "eval.jsonl")
    asked = {"prompt": "Which of the two roofs is older?", "chosen": "this", "rejected": "that"}
    file = rows(tmp_path, [asked, {**asked, "prompt": "Hi"}], "pairs.jsonl")
    words = ("data", "preferences", str(file), "--against", str(held))
    done = run(*words)
    assert f"1, {file}:1 as {held}:1" in done.out
    assert run(*words, "--json").json["kept"] == 1
    assert run(*words, "--keep", "leaked", "--json").json["kept"] == 2


def test_what_cannot_be_done_is_said_first(tmp_path: Path, run: Run) -> None:
    file = str(ratings(tmp_path))
    there = tmp_path / "there.jsonl"
    there.write_text("")
    for words, said in (
        (("--keep", "everything"), "--keep copied or contradicted or leaked"),
        (("--validation", "1"), "which is no share"),
        (("--validation", "0.1"), "is of the pairs that are written"),
        (("--output", str(there)), "is there already"),
        (("--against", str(tmp_path / "none.jsonl")), "there is no data at"),
        (("--picture", str(tmp_path / "x.gif")), "no kind of picture"),
    ):
        done = run("data", "preferences", file, *words)
        assert done.code != 0
        assert said in done.err
