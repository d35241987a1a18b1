"""What an update stores when it is the only thing to store, and what it says in errors."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmstack.core import InputError
from lmstack.rag import Index


@pytest.fixture
def index(tmp_path: Path, embedder, docs: Path, monkeypatch) -> Iterator[Index]:
    """An index of ``docs`` whose times are all trusted, so that nothing needs to be stored."""
    monkeypatch.setattr("lmstack.rag.ingest.plan._RACY_NS", -(10**18))
    with Index.open(tmp_path / "index", embedder) as opened:
        opened.update([docs])
        yield opened


def kinds(index: Index) -> list[str]:
    return [problem.kind for problem in index.status(check=False).problems]


def test_a_problem_is_stored_and_forgotten_when_nothing_else_happens(index, docs) -> None:
    os.mkfifo(docs / "pipe.txt")
    index.update()
    assert kinds(index) == ["special"]
    (docs / "pipe.txt").unlink()
    index.update()
    assert kinds(index) == []


@pytest.mark.parametrize("added", [0, 1])
def test_new_times_are_stored_whatever_else_is_done(index, docs, monkeypatch, added: int) -> None:
    """Otherwise the file would be read again by every update from then on."""
    os.utime(docs / "serving.md")
    for number in range(added):
        (docs / f"{number}.md").write_text("new")
    assert index.update().plan.unchanged == 3
    monkeypatch.setattr("lmstack.rag.ingest.plan.read_file", None)
    assert index.update().plan.unchanged == 3 + added


def test_what_was_taken_out_by_hand_is_counted_as_that(index, docs) -> None:
    index.remove([docs / "more"])
    not_read = index.update().plan.not_read
    assert not_read.counts == {"removed": 1}
    [file] = not_read.files
    assert (Path(file.path).name, file.kind) == ("lighthouse.txt", "removed")


def test_new_documents_without_an_embedder_are_refused_by_name(index, docs) -> None:
    (docs / "new.md").write_text("new")
    with (
        Index.open(index.folder, create=False) as plain,
        pytest.raises(InputError, match="embedding model") as caught,
    ):
        plain.update()
    assert caught.value.param == "embedder"
