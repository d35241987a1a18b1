"""A folder of everything that was made to harm, through the commands: it costs itself only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.app.conftest import HashEmbedder, Run
from tests.app.hostile_folder import EXPECTED, GOOD, SECRET, make_folder

from lmstack.app.page.view import PageView
from lmstack.app.server.workspace import Workspace, WorkspaceConfig
from lmstack.core import ScriptedModel
from lmstack.rag import Index

# The command as its user runs it, with an embedder that needs no weights.
COMMAND = """
import sys
from tests.app.conftest import HashEmbedder, Run
from lmstack.app import wiring
wiring.embedder = lambda name: HashEmbedder()
from lmstack.app.cli import main
sys.exit(main(sys.argv[1:]))
"""
TREE = Path(__file__).parents[3]
# One processor that others use too takes minutes; a hang takes for ever.
BOUND_S = 240
MAX_BYTES = 1_500_000_000


@dataclass
class Indexed:
    root: Path
    index: Path
    said: Any
    err: str
    code: int
    seconds: float
    most_bytes: int


# Writes down what the command itself took: the children of the tests took more before.
_MEASURED = """
import pathlib, resource, subprocess, sys
done = subprocess.run(sys.argv[2:])
most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
pathlib.Path(sys.argv[1]).write_text(str(most))
sys.exit(done.returncode)
"""


def _lmstack(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LMSTACK_HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(TREE), str(TREE / "src")]),
        "NO_COLOR": "1",
    }
    return subprocess.run(
        [
            *(sys.executable, "-c", _MEASURED, f"{home}.bytes"),
            *(sys.executable, "-c", COMMAND, *arguments),
        ],
        env=environment,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


@pytest.fixture(scope="module")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Indexed]:
    base = tmp_path_factory.mktemp("hostile")
    root = make_folder(base / "docs", base / "secret.txt")
    started = time.monotonic()
    ran = _lmstack(base / "home", "index", "add", "--json", "--index", str(base / "i"), str(root))
    took = time.monotonic() - started
    most = int((base / "home.bytes").read_text())
    said = json.loads(ran.stdout) if ran.stdout else None
    yield Indexed(root, base / "i", said, ran.stderr, ran.returncode, took, most)
    (root / "sparse.txt").unlink()


def test_command_ends_well_and_in_bounds(indexed: Indexed) -> None:
    assert indexed.code == 0, indexed.err
    assert "Traceback" not in indexed.err
    assert indexed.seconds < BOUND_S
    assert indexed.most_bytes < MAX_BYTES


def test_every_bad_file_is_reported_with_what_to_do(indexed: Indexed) -> None:
    told = {}
    for problem in indexed.said["problems"]:
        told[os.path.relpath(problem["path"], indexed.root)] = problem["kind"]
        assert problem["message"]
        assert problem["hint"]
        assert "\u202e" not in json.dumps(problem, ensure_ascii=False)
    assert told == EXPECTED


@pytest.mark.parametrize("name", GOOD)
def test_good_file_among_them_is_found(indexed: Indexed, name: str) -> None:
    with Index.open(indexed.index, create=False) as index:
        hits = index.search(GOOD[name], 5, "lexical")
    assert [os.path.relpath(hit.path, indexed.root) for hit in hits] == [name]


def test_search_command_finds_one_and_verify_finds_nothing_wrong(
    indexed: Indexed, run: Run, embedder: HashEmbedder
) -> None:
    place = ["--index", str(indexed.index)]
    found = run("search", "dormouse", "--json", "--mode", "lexical", *place).json
    assert os.path.relpath(found[0]["path"], indexed.root) == "good.docx"
    assert run("index", "verify", *place).code == 0


def test_too_many_hits_are_refused_and_an_endless_query_is_not_slow(
    indexed: Indexed, run: Run, embedder: HashEmbedder
) -> None:
    options = ["--mode", "lexical", "--json", "--index", str(indexed.index)]
    ran = run("search", "dormouse", "-k", "1000000000", *options)
    assert ran.code in (1, 2)
    assert "1000000000" in ran.out + ran.err
    endless = "dormouse " + " ".join(f"word{n}" for n in range(20_000))
    assert [hit["path"] for hit in run("search", endless, *options).json]


def test_nothing_from_outside_the_folder_is_in_the_index(indexed: Indexed) -> None:
    stored = b"".join(file.read_bytes() for file in indexed.index.rglob("*") if file.is_file())
    assert b"aardvark" in stored
    for foreign in (SECRET, "root:x:0", "lollollol"):
        assert foreign.encode() not in stored


def test_entries_of_an_archive_are_written_nowhere(indexed: Indexed) -> None:
    assert not [*indexed.root.parent.rglob("*escaped*")]
    assert not Path("/tmp/escaped.txt").exists()


def test_text_that_shows_something_else_is_flagged(indexed: Indexed) -> None:
    with Index.open(indexed.index, create=False) as index:
        flagged = {
            info.title: info.fields["warnings"]
            for info in index.documents()
            if "warnings" in info.fields
        }
    assert flagged == {"Turned": ("bidi",), "tags": ("zero-width",)}


def test_up_over_the_folder_shows_the_same_and_ends(indexed: Indexed) -> None:
    config = WorkspaceConfig(rescan_s=0)
    with Workspace(
        indexed.root, indexed.index, model=ScriptedModel(), embedder=HashEmbedder(), config=config
    ) as workspace:
        view = PageView(workspace)
        view.start_indexing()
        deadline = time.monotonic() + BOUND_S
        while view.status()["state"] != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        status, rows = view.status(), view.documents()["documents"]
    assert status["files"]["problems"] == len(EXPECTED)
    bad = {row["path"].removeprefix("docs/"): row["problem"] for row in rows if row["problem"]}
    assert set(bad) == set(EXPECTED)
    assert all(problem["message"] and problem["hint"] for problem in bad.values())
    assert {f"docs/{name}" for name in GOOD} <= {row["path"] for row in rows if row["id"]}
