"""`kill -9` at any moment leaves a valid index, and the next update makes it whole."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lmstack.rag import Index

EDITS = 10
TEXT = "harbour lantern meadow quartz violet copper orchard thunder willow marble"
WORDS = TEXT.split()
# In the environment of every process that a test starts, so that it knows its own.
MARK = "LMSTACK_TEST_INDEX"


class _Killable:
    """Updates in a process that can be killed in the middle. ``warm`` pays for many of them."""

    def __init__(self, index: Path | str, docs: Path, *, warm: bool = False) -> None:
        script = Path(__file__).with_name("update_on_demand.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script), str(index), str(docs), *["warm"] * warm],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {MARK: str(index)},
        )

    def run(self, what: str, kill: tuple[int, float] | None) -> int:
        """Exit status of an update or a change of embedder. ``kill``: after so many documents
        and then seconds. The child is not reaped before it is killed, so its id cannot be
        another process's."""
        child = int(self._ask(what))
        line = ""
        for _ in range(kill[0] if kill else sys.maxsize):
            if line == "end\n":
                break
            line = self._read()
        if kill is not None:
            time.sleep(kill[1])
            os.kill(child, signal.SIGKILL)
        status = self._ask("reap")
        while not status.strip("-\n").isdigit():
            status = self._read()
        return int(status)

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process that updates has ended"
        return line

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def _edit(docs: Path, dice: random.Random) -> None:
    """Add, change, move, remove, break or mend a file."""
    files = sorted(docs.glob("**/*.md"))
    path = docs / f"{dice.choice('ab')}/{dice.randrange(12)}.md"
    path.parent.mkdir(exist_ok=True)
    kind = dice.random()
    if kind < 0.15 and files:
        dice.choice(files).unlink()
    elif kind < 0.3 and files:
        dice.choice(files).rename(path)
    elif kind < 0.36:
        path.write_bytes(b"\xff broken")
    else:
        paragraphs = [
            " ".join(dice.choices(WORDS, k=60)).capitalize() + "."
            for _ in range(dice.randint(1, 8))
        ]
        path.write_text(f"# {dice.choice(WORDS)}\n\n" + "\n\n".join(paragraphs) + "\n")


@pytest.mark.parametrize("rounds", [5, pytest.param(100, marks=pytest.mark.long)])
def test_index_equals_a_rebuild_after_many_edits_with_kills(tmp_path, make_embedder, rounds):
    dice = random.Random(20_240_607)
    docs = tmp_path / "docs"
    docs.mkdir()
    folder = tmp_path / "index"
    killable = _Killable(folder, docs, warm=True)
    killed = 0
    try:
        assert killable.run("update a", None) == 0
        for number in range(rounds):
            for _ in range(EDITS):
                _edit(docs, dice)
            status = killable.run(
                "update a", (dice.randint(0, 5), dice.uniform(0, 0.01)) if number % 2 else None
            )
            killed += status == -signal.SIGKILL
            with Index.open(folder, make_embedder()) as index:
                assert index.verify().findings == ()
                if number % 5 == 4:
                    index.update()
                    _assert_equals_rebuild(index, tmp_path / f"rebuilt{number}", docs)
    finally:
        killable.close()
    assert killed >= rounds // 4


def _assert_equals_rebuild(index: Index, folder: Path, docs: Path) -> None:
    with Index.open(folder, index.embedder) as rebuilt:
        rebuilt.update([docs])
        assert index.content_digest() == rebuilt.content_digest()
        problems = [(p.path, p.kind) for p in rebuilt.status().problems]
        assert [(p.path, p.kind) for p in index.status().problems] == problems
        for word in WORDS[:3]:
            found = [
                sorted((h.path, h.start) for h in i.search(word, 1000)) for i in (index, rebuilt)
            ]
            assert found[0] == found[1]


def test_killed_while_workers_parse_leaves_no_worker_and_a_valid_index(tmp_path, make_embedder):
    dice = random.Random(7)
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(24):
        words = " ".join(dice.choices(WORDS, k=200))
        (docs / f"{number:02}.html").write_text(f"<title>{number}</title><p>{words}</p>" * 2)
    folder = tmp_path / "index"
    counts = []
    killable = _Killable(folder, docs)
    try:
        for kill in ((1, 0.0), (3, 0.01), (0, 0.3), None):
            status = killable.run("update a", kill)
            assert status == (0 if kill is None else -signal.SIGKILL)
            with Index.open(folder, make_embedder()) as index:
                assert index.verify().findings == ()
                counts.append(len(index.documents()))
    finally:
        killable.close()
    assert counts == sorted(counts)
    assert counts[-1] == 24
    deadline = time.monotonic() + 60
    while (left := _workers_of_nobody(folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []
    with Index.open(folder, make_embedder()) as index:
        _assert_equals_rebuild(index, tmp_path / "rebuilt", docs)


def _workers_of_nobody(folder: Path) -> list[int]:
    """Processes that read for this index whose parent is gone (process 1 has them then)."""
    found = []
    mark = f"{MARK}={folder}\0".encode()
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            facts = status.read_text()
            command = status.with_name("cmdline").read_bytes()
            started_with = status.with_name("environ").read_bytes()
        except OSError:
            continue
        ours = b"lmstack.rag.ingest.worker" in command and mark in started_with
        if ours and "\nPPid:\t1\n" in facts:
            found.append(int(status.parent.name))
    return found


@pytest.fixture(params=["file", pytest.param("postgres", marks=pytest.mark.long)])
def place(request, tmp_path):
    if request.param == "file":
        return tmp_path / "index"
    return request.getfixturevalue("postgres")


def test_changes_of_embedder_with_kills_lose_nothing(place, tmp_path, make_embedder):
    dice = random.Random(20_261_126)
    docs = tmp_path / "docs"
    docs.mkdir()
    models = {"a": make_embedder(), "b": make_embedder(48, 40, "b")}
    killable = _Killable(place, docs)
    statuses = []
    try:
        for _ in range(8):
            _edit(docs, dice)
        assert killable.run("update a", None) == 0
        active = "a"
        for number in range(8):
            for _ in range(3):
                _edit(docs, dice)
            kill = (dice.randint(0, 4), dice.uniform(0, 0.02)) if number % 4 != 3 else None
            other = "b" if active == "a" else "a"
            what = f"update {active}" if number % 4 == 0 else f"reembed {other}"
            statuses.append(killable.run(what, kill))
            with Index.open(place, create=False) as index:
                assert index.verify().findings == ()
                active = next(n for n, model in models.items() if index.is_made_with(model))
            with Index.open(place, models[active]) as index:
                for hit in index.search("harbour lantern", 5):
                    assert index.document(hit.document_id).text[hit.start : hit.end] == hit.text
            if number % 4 == 3:
                assert active == other
                with Index.open(place, models[active]) as index:
                    index.update()
                    _assert_equals_rebuild(index, tmp_path / f"rebuilt{number}", docs)
    finally:
        killable.close()
    assert statuses.count(-signal.SIGKILL) >= 2
