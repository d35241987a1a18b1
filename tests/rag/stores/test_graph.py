"""FAISS as a cache of the catalogue: what is found does not depend on what is in its file."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.rag.stores.kept import corpus, found, write
from tests.rag.stores.model import DIMENSIONS

from lmstack.core import ExtraMissingError
from lmstack.rag import Index, IndexConfig
from lmstack.rag.filters import parse_condition
from lmstack.rag.stores import graph
from lmstack.rag.stores.graph import Graph


@pytest.fixture
def embedder(make_embedder):
    return make_embedder(DIMENSIONS)


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """So that some passages are enough for a graph."""
    monkeypatch.setattr(graph, "EXACT_UP_TO", 5)


@pytest.fixture
def walks(monkeypatch):
    """How often a graph was walked, and how many rows were put into one."""
    counts = {"walked": 0, "added": 0}
    walk, follow = Graph._walk, Graph._follow

    def counted_walk(*given):
        counts["walked"] += 1
        return walk(*given)

    def counted_follow(*given):
        added = follow(*given)
        counts["added"] += added
        return added

    monkeypatch.setattr(Graph, "_walk", counted_walk)
    monkeypatch.setattr(Graph, "_follow", counted_follow)
    return counts


def files(folder: Path) -> list[Path]:
    return sorted((folder / "faiss").iterdir())


def same_as_plain(index: Index, docs: Path, folder: Path, where=None) -> None:
    with Index.open(folder, index.embedder, config=index.config) as plain:
        plain.add([docs])
        assert found(index, where=where) == found(plain, where=where)


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_a_graph_changes_no_result(form, tmp_path, embedder, walks):
    docs = corpus(tmp_path / "docs", 30)
    config = IndexConfig(vectors=form)
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        for text in ("weight >= 6", "tags has y1", f"path under {docs}/a"):
            same_as_plain(index, docs, tmp_path / "plain", parse_condition(text))
        same_as_plain(index, docs, tmp_path / "plain")
        assert walks["walked"] > 0
        report = index.compare_store()
        assert (report.findings, report.waiting) == ((), 0)
        assert report.rows == index.status(check=False).chunks == walks["added"]
        assert report.recall.mean == 1
        assert index.store_problem is None


def test_no_vector_is_kept_in_its_file(tmp_path, embedder):
    """Codes of a byte a dimension and links; nothing of the documents."""
    docs = corpus(tmp_path / "docs", 10)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        with index._database.reading() as connection:
            vectors = index._corpus(connection).dense.rows(np.arange(5))
    (path,) = files(tmp_path)
    with np.load(path) as saved:
        assert sorted(saved) == ["graph", "ids"]
        data = saved["graph"].tobytes()
    assert all(vector.tobytes() not in data for vector in vectors)


def test_after_edits_it_finds_what_is_there_and_nothing_else(tmp_path, embedder, walks):
    docs = corpus(tmp_path / "docs", 20)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        (docs / "a/0.md").unlink()
        write(docs, 3, 99)
        write(docs, 21, 21)
        index.update()
        same_as_plain(index, docs, tmp_path / "one")
        before = walks["added"]
        for number in range(1, 16):  # more than half
            (docs / f"{'ab'[number % 2]}/{number}.md").unlink()
        index.update()
        same_as_plain(index, docs, tmp_path / "two")
        assert walks["added"] - before == index.status(check=False).chunks, "was not built anew"


def test_the_next_process_reads_the_file(tmp_path, embedder, walks):
    docs = corpus(tmp_path / "docs", 10)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        before = found(index)
    added = walks["added"]
    with Index.open(tmp_path / "index", embedder) as again:
        assert found(again) == before
        assert walks["added"] == added
        assert again.store_problem is None


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "of another", "noise"])
def test_a_damaged_file_is_built_anew_by_a_search(damage, tmp_path, embedder, walks):
    docs = corpus(tmp_path / "docs", 10)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        before = found(index)
    (path,) = files(tmp_path)
    data = bytearray(path.read_bytes())
    match damage:
        case "missing":
            path.unlink()
        case "flipped":
            data[len(data) // 2] ^= 64
            path.write_bytes(data)
        case "of another":
            np.savez(path, ids=np.arange(3), graph=np.load(path)["graph"])
        case _:
            path.write_bytes({"empty": b"", "cut": data[:-200], "noise": b"x" * 999}[damage])
    added = walks["added"]
    with Index.open(tmp_path / "index", embedder) as again:
        assert found(again) == before
        assert walks["added"] == 2 * added
        assert again.store_problem is None
    with np.load(path) as saved:
        assert len(saved["ids"]) == added


def test_a_caller_finds_by_the_graph_only_what_it_may_see(tmp_path, embedder, walks):
    docs = corpus(tmp_path / "docs", 20)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        index.set_labels([docs / "a"], ["hr"])
        hits = found(index.seen_by(frozenset()))
        assert walks["walked"] > 0
        assert all(hits)
        assert all("/a/" not in str(path) for some in hits for path, *_ in some)


def test_two_indexes_in_one_folder_do_not_meet(tmp_path, embedder):
    one, two = corpus(tmp_path / "one", 10), corpus(tmp_path / "two", 14)
    with Index.open(tmp_path / "a", embedder) as a, Index.open(tmp_path / "b", embedder) as b:
        for index, docs in ((a, one), (b, two)):
            index.keep_in(f"faiss:{tmp_path}/faiss")
            index.add([docs])
        assert len(files(tmp_path)) == 2
        same_as_plain(a, one, tmp_path / "plain a")
        same_as_plain(b, two, tmp_path / "plain b")
        a.move_store(None)
        assert len(files(tmp_path)) == 1


def test_another_embedder_gets_a_graph_of_its_own(tmp_path, embedder, make_embedder):
    docs, other = corpus(tmp_path / "docs", 10), make_embedder(DIMENSIONS + 4, seed="b")
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        old = files(tmp_path)
        index.reembed(other)
    with Index.open(tmp_path / "index", other) as again:
        same_as_plain(again, docs, tmp_path / "plain")
        write(docs, 11, 11)
        again.update()
        assert len(files(tmp_path)) == 1
        assert files(tmp_path) != old
        same_as_plain(again, docs, tmp_path / "more")


def test_a_rebuilt_index_does_not_walk_its_old_graph(tmp_path, embedder):
    docs = corpus(tmp_path / "docs", 10)
    for form in ("float32", "binary"):
        config = IndexConfig(vectors=form)
        with Index.open(tmp_path / "index", embedder, config=config, rebuild=True) as index:
            index.keep_in(f"faiss:{tmp_path}/faiss")
            index.add([docs])
            assert index.compare_store().recall.mean == 1
            same_as_plain(index, docs, tmp_path / form)


def test_without_faiss_the_index_is_scanned_and_says_so(tmp_path, embedder, monkeypatch):
    docs = corpus(tmp_path / "docs", 10)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        before = found(index)
    monkeypatch.setitem(sys.modules, "faiss", None)
    with Index.open(tmp_path / "index", embedder) as again:
        assert found(again) == before
        assert "faiss" in again.store_problem
    with (
        Index.open(tmp_path / "other", embedder) as other,
        pytest.raises(ExtraMissingError, match=r"lmstack\[faiss\]"),
    ):
        other.keep_in(f"faiss:{tmp_path}/none")
    assert not (tmp_path / "none").exists()


def test_few_passages_are_scanned_and_make_no_file(tmp_path, embedder, monkeypatch, walks):
    monkeypatch.setattr(graph, "EXACT_UP_TO", 10_000)
    docs = corpus(tmp_path / "docs", 10)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        same_as_plain(index, docs, tmp_path / "plain")
        assert index.compare_store().recall.mean == 1
    assert walks["walked"] == 0
    assert files(tmp_path) == []


def test_an_index_that_gives_its_file_no_name_reads_and_writes_none(tmp_path, embedder, walks):
    """As an earlier version left it; the next update gives one."""
    docs = corpus(tmp_path / "docs", 10)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(f"faiss:{tmp_path}/faiss")
        index.add([docs])
        before = found(index)
        with index._database.writing() as connection:
            connection.exec_driver_sql("DELETE FROM meta WHERE key = 'graph'")
    (old,) = files(tmp_path)
    with Index.open(tmp_path / "index", embedder) as again:
        assert found(again) == before
    assert files(tmp_path) == [old]
    with Index.open(tmp_path / "index", embedder) as again:
        write(docs, 11, 11)
        again.update()
        same_as_plain(again, docs, tmp_path / "plain")
    assert len(files(tmp_path)) == 2
