"""The index of a folder: which files are not in it and why, and how every command names it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lmstack.app.cli.commands import index_looking
from lmstack.app.server.not_read import NotReadNotes
from lmstack.rag import IngestPlan, UpdateResult
from lmstack.rag.ingest import scan as passing
from lmstack.rag.ingest.scan import NotRead

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run


@pytest.fixture
def mixed(docs: Path) -> Path:
    """Two documents, and one of each that is not read."""
    (docs / "a.png").write_bytes(b"PNG")
    (docs / "b.zip").write_bytes(b"PK")
    (docs / "long.log").write_text("line\n" * 1000)
    (docs / "build").mkdir()
    (docs / "draft.md").write_text("Draft.")
    (docs / ".lmstackignore").write_text("draft*\n")
    (docs / ".hidden.png").write_bytes(b"PNG")
    (docs / "bad.txt").write_bytes(b"a\x00b")
    return docs


NOT_READ = (
    "not read: 3 files of other kinds (.png, .zip, .log), 1 left out by a pattern,"
    " 1 folder of programs, 1 with a problem; lmstack index status --docs docs lists them"
)


def test_one_line_counts_what_was_not_read(run: Run, mixed: Path, embedder: HashEmbedder) -> None:
    ran = run("index", "add", "--docs", "docs")
    assert ran.code == 0
    assert ran.err.splitlines()[-1] == NOT_READ
    counts = run("index", "update", "--docs", "docs", "--json").json["not_read"]["counts"]
    assert counts == {"ending": 3, "pattern": 1, "folder": 1}


def test_what_is_left_out_is_told_when_the_index_changes_and_not_at_every_question(
    run: Run, mixed: Path, embedder: HashEmbedder
) -> None:
    asked = ("search", "letters", "--docs", "docs")
    first, second = run(*asked), run(*asked)
    assert first.err.count("left out: docs/bad.txt") == 1
    assert NOT_READ in first.err
    assert "left out" not in second.err
    assert "not read" not in second.err
    (mixed / "new.txt").write_text("New.")
    assert NOT_READ in run(*asked).err


def test_a_folder_of_which_nothing_is_read_says_so_at_every_question(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    for path in list(docs.iterdir()):
        path.rename(path.with_suffix(".png"))
    for _ in range(2):
        err = run("search", "letters", "--docs", "docs").err
        assert "has no file that can be read: 2 files of other kinds (.png)" in err


def test_status_lists_what_is_not_read_with_the_reason(
    run: Run, mixed: Path, embedder: HashEmbedder
) -> None:
    run("index", "add", "--docs", "docs")
    (mixed / "new.zip").write_bytes(b"PK")
    _, _, listed = run("index", "status", "--docs", "docs").out.partition("\nNot read\n")
    rows = dict(line.split(maxsplit=1) for line in listed.splitlines())
    assert rows.pop("docs/bad.txt").startswith("is binary")
    assert rows == {
        "docs/a.png": "files that end in '.png' are not read",
        "docs/b.zip": "files that end in '.zip' are not read",
        "docs/long.log": "files that end in '.log' are not read",
        "docs/new.zip": "files that end in '.zip' are not read",
        "docs/build": "folders named 'build' are not looked into",
        "docs/draft.md": "is left out by a pattern",
    }
    found = run("index", "status", "--docs", "docs", "--json").json["not_read"]
    assert found["counts"] == {"ending": 4, "pattern": 1, "folder": 1}
    assert found["endings"] == {".zip": 2, ".png": 1, ".log": 1}
    assert {file["path"] for file in found["files"]} == set(rows)


def test_a_huge_number_of_other_files_is_counted_and_the_first_are_listed(
    run: Run, docs: Path, embedder: HashEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passing, "LISTED", 5)
    monkeypatch.setattr(index_looking, "MOST_LINES", 3)
    for number in range(9):
        (docs / f"{number}.png").write_bytes(b"PNG")
    run("index", "add", "--docs", "docs")
    found = run("index", "status", "--docs", "docs", "--json").json["not_read"]
    assert (found["counts"], len(found["files"])) == ({"ending": 9}, 5)
    lines = run("index", "status", "--docs", "docs").out.splitlines()
    assert lines[-1] == "  and 6 more; --json lists the first 5"


def test_what_was_taken_out_is_listed_and_comes_back(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    run("index", "add", "--docs", "docs")
    assert run("index", "remove", "--docs", "docs", "docs/ports.txt").code == 0
    assert "docs/ports.txt   was taken out" in run("index", "status", "--docs", "docs").out
    assert run("index", "add", "--docs", "docs", "docs/ports.txt", "--json").json["added"] == 1


INDEX_COMMANDS = (
    *("add", "update", "remove", "label", "show", "status", "verify", "duplicates", "move"),
    "report",
)


@pytest.mark.parametrize("name", INDEX_COMMANDS)
def test_every_command_of_an_index_takes_a_folder_as_ask_does(
    run: Run, docs: Path, embedder: HashEmbedder, name: str
) -> None:
    more = {
        "remove": ["docs/ports.txt"],
        "label": ["docs/ports.txt", "--set", "hr"],
        "show": ["docs/ports.txt"],
        "move": ["--to", "none"],
    }
    run("index", "add", "--docs", "docs")
    assert run("index", name, *more.get(name, []), "--docs", "docs").code == 0
    both = run("index", name, *more.get(name, []), "--docs", "docs", "--index", "x")
    assert (both.code, "both --docs and --index" in both.err) == (2, True)


def test_a_folder_without_an_index_names_the_command_that_makes_it(run: Run, docs: Path) -> None:
    ran = run("index", "status", "--docs", "docs")
    assert ran.code == 1
    assert ran.err.splitlines() == [
        "error: 'docs' has no index yet",
        "try:   lmstack index add --docs docs",
    ]


def test_paths_of_a_folders_index_are_in_it(
    run: Run, docs: Path, tmp_path: Path, embedder: HashEmbedder
) -> None:
    (tmp_path / "else.txt").write_text("Elsewhere.")
    ran = run("index", "add", "--docs", "docs", "else.txt")
    assert (ran.code, "'else.txt' is not in the folder of --docs" in ran.err) == (2, True)
    assert run("index", "add", "--index", "my.idx").code == 2


def test_what_is_not_read_is_told_once_and_again_when_it_changes() -> None:
    notes: list[str] = []
    tell = NotReadNotes(notes.append, Path("my docs"))
    for pictures in (0, 2, 2, 3):
        counts = {"ending": pictures} if pictures else {}
        tell(
            UpdateResult(
                IngestPlan(not_read=NotRead(counts, {".png": pictures})), 0, 0, 0, 0, 0, (), 0
            )
        )
    status = "lmstack index status --docs 'my docs' lists them"
    assert notes == [
        f"not read: {pictures} files of other kinds (.png); {status}" for pictures in (2, 3)
    ]
