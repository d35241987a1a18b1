"""A change is told soon and once, whatever becomes of the folder meanwhile."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstack.rag import Index
from lmstack.rag.ingest import watch as watching
from lmstack.rag.ingest.watch import Watcher


class _Told:
    """Counts, and waits for the next."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.times = 0

    def __call__(self) -> None:
        self.times += 1
        self._event.set()

    def soon(self) -> bool:
        told = self._event.wait(60)
        self._event.clear()
        return told

    def quiet(self, seconds: float = 0.4) -> bool:
        """Whether nothing more is told for a while; what was told before is forgotten."""
        time.sleep(seconds / 2)
        self._event.clear()
        return not self._event.wait(seconds)


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    monkeypatch.setattr(watching, "_QUIET_MS", 50)
    monkeypatch.setattr(watching, "_LOOK_MS", 100)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "docs").mkdir()
    return tmp_path / "docs"


@pytest.fixture(params=[False, True], ids=["events", "polling"])
def told(request, folder) -> Iterator[_Told]:
    told = _Told()
    with Watcher([folder], told, [folder / "my.idx"], polling=request.param):
        assert told.soon()
        yield told


def test_each_kind_of_change_is_told(folder, told):
    assert told.quiet()
    (folder / "a.md").write_text("one")
    assert told.soon()
    assert told.quiet()
    (folder / "a.md").rename(folder / "b.md")
    assert told.soon()
    assert told.quiet()
    (folder / "b.md").unlink()
    assert told.soon()


def test_burst_of_changes_is_told_once_or_so(folder, told):
    assert told.quiet()
    before = told.times
    for number in range(200):
        (folder / f"{number}.md").write_text("words")
    assert told.soon()
    assert told.quiet(1)
    assert told.times - before <= 5


def test_changes_of_hidden_files_and_of_the_index_are_not_told(folder, told):
    for name in (".git", "my.idx", "node_modules"):
        (folder / name).mkdir()
    assert told.quiet(0.6)
    for name in (".git/HEAD", "my.idx/index.sqlite-wal", "node_modules/a.md", ".swp"):
        (folder / name).write_text("x")
    assert told.quiet()
    (folder / ".lmstackignore").write_text("*.md")
    assert told.soon()


def test_folder_that_goes_and_comes_back_is_watched_again(folder, told):
    shutil.rmtree(folder)
    assert told.soon()
    assert told.quiet()
    folder.mkdir()
    assert told.soon()
    assert told.quiet()
    (folder / "a.md").write_text("words")
    assert told.soon()


def test_folder_that_is_not_there_yet_is_waited_for(tmp_path):
    told = _Told()
    with Watcher([tmp_path / "later"], told):
        assert told.quiet()
        (tmp_path / "later").mkdir()
        assert told.soon()


def test_file_that_an_editor_replaces_is_still_watched(tmp_path):
    path = tmp_path / "a.md"
    path.write_text("one")
    told = _Told()
    with Watcher([path], told):
        assert told.soon()
        for number in range(2):
            assert told.quiet()
            (tmp_path / "new").write_text(f"version {number}")
            os.replace(tmp_path / "new", path)
            assert told.soon()


def test_without_events_it_looks(folder, monkeypatch):
    real, forced = watching.watchfiles.watch, []

    def full(*paths, force_polling=None, **options):
        forced.append(force_polling)
        if not force_polling:
            raise OSError(28, "OS file watch limit reached")
        return real(*paths, force_polling=force_polling, **options)

    monkeypatch.setattr(watching.watchfiles, "watch", full)
    told = _Told()
    with Watcher([folder], told) as watcher:
        assert told.soon()
        assert told.quiet(0.6)
        (folder / "a.md").write_text("words")
        assert told.soon()
        assert watcher.polling
    assert forced == [None, True]


def test_index_that_is_updated_when_told_follows_the_folder(folder, tmp_path, embedder):
    changed = threading.Event()
    with (
        Index.open(tmp_path / "index", embedder) as index,
        Watcher([folder], changed.set, [index.folder]),
    ):
        for number in range(3):
            (folder / f"{number}.md").write_text(f"Words number {number}.")
            deadline = time.monotonic() + 10
            while len(index.documents()) <= number and time.monotonic() < deadline:
                if changed.wait(0.1):
                    changed.clear()
                    index.update([folder])
        assert len(index.documents()) == 3
