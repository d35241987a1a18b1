"""An index that keeps its vectors in a store: the same results, whatever becomes of the store."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from tests.rag.stores.kept import content, corpus, found, write
from tests.rag.stores.model import DIMENSIONS
from tests.rag.stores.places import NAMES

from lmstack.core import InputError, IntegrityError, StoreError
from lmstack.rag import Index
from lmstack.rag.filters import parse_condition
from lmstack.rag.stores import VectorStore, open_store
from lmstack.rag.stores.address import parse_address
from lmstack.rag.stores.projection import Projection


def some_long(*ordinary):
    """Each kind of store; what all must do is in `test_conformance.py`, what each keeps of the
    forms in `test_forms.py`, so that the other kinds are in the long suite here."""
    return [pytest.param(kind, marks=[pytest.mark.long] * (kind not in ordinary)) for kind in NAMES]


@pytest.fixture
def embedder(make_embedder):
    return make_embedder(DIMENSIONS)


@pytest.mark.parametrize("kind", some_long("postgres", "pinecone"))
def test_a_store_changes_no_result(kind, places, tmp_path, embedder):
    place = places.new(kind)
    docs = corpus(tmp_path / "docs", 12)
    with Index.open(tmp_path / "plain", embedder) as plain:
        plain.add([docs])
        with Index.open(tmp_path / "kept", embedder) as kept:
            kept.keep_in(place.url)
            kept.add([docs])
            assert len(content(kept)) == plain.status(check=False).chunks
            for text in ("weight >= 6", "tags has y1", "date < 2024-05", f"path under {docs}/a"):
                where = parse_condition(text)
                assert found(kept, where=where) == found(plain, where=where)
            assert found(kept) == found(plain)
            assert kept.store_problem is None
            report = kept.compare_store()
            assert (report.findings, report.waiting) == ((), 0)
            assert report.recall.mean == 1


@pytest.mark.parametrize("kind", some_long("qdrant", "weaviate"))
def test_after_edits_the_store_equals_a_new_one(kind, places, tmp_path, embedder):
    place, dice = places.new(kind), random.Random(kind)
    docs = corpus(tmp_path / "docs", 6)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(place.url)
        index.add([docs])
        for step in range(3):
            for number in dice.sample(range(9), 3):
                path = docs / f"{'ab'[number % 2]}/{number}.md"
                if dice.random() < 0.4:
                    path.unlink(missing_ok=True)
                else:
                    write(docs, number, dice.randrange(100))
            if step == 1:
                index.close()
                index = Index.open(tmp_path / "index", embedder)
            index.update()
        with Index.open(tmp_path / "new", embedder) as new:
            new.keep_in(places.new("qdrant").url)
            new.add([docs])
            assert content(index) == content(new)
            assert found(index) == found(new)
        index.close()


class Broken:
    """Makes the calls of a store fail, or die, from some call on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.after: int | None = None
        self.error: Callable[[], BaseException] = lambda: StoreError("it is away", hint="wait")
        opened = Projection.opened
        monkeypatch.setattr(Projection, "opened", lambda p: Guarded(self, opened(p)))

    def call(self) -> None:
        if self.after is not None:
            self.after -= 1
            if self.after < 0:
                raise self.error()


class Guarded:
    def __init__(self, broken: Broken, store: VectorStore) -> None:
        self._broken, self._store = broken, store

    def __getattr__(self, name: str) -> object:
        value = getattr(self._store, name)
        if not callable(value) or name == "close":
            return value

        def call(*given: object) -> object:
            self._broken.call()
            return value(*given)

        return call


@pytest.fixture
def kept(tmp_path, embedder, places):
    """An index that keeps a store, and its folder of documents."""
    docs = corpus(tmp_path / "docs", 6)
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(places.new("qdrant").url)
        index.add([docs])
        yield index, docs


def store_of(index: Index) -> VectorStore:
    address = parse_address(index.status(check=False).store).of_space(index._opened.space.id)
    return open_store(address, DIMENSIONS, create=False)


def test_a_deleted_document_is_not_found_though_the_store_has_it(kept, monkeypatch):
    index, docs = kept
    broken = Broken(monkeypatch)
    broken.after = 0
    (docs / "a/0.md").unlink()
    index.update()
    assert "it is away" in index.store_problem
    broken.after = None
    index._opened.keeper.recovered()
    store = store_of(index)
    assert store.count() > index.status(check=False).chunks
    for hits in found(index):
        assert all(not str(path).endswith("a/0.md") for path, *_ in hits)
    assert index.store_problem is None
    index.update()
    with Index.open(index.folder, index.embedder):
        assert store.count() == index.status(check=False).chunks
    store.close()


def test_what_the_store_does_not_have_yet_is_found(kept, monkeypatch, tmp_path, embedder):
    index, docs = kept
    broken = Broken(monkeypatch)
    broken.after = 0
    for number in (1, 7):
        write(docs, number, 77)
    index.update()
    broken.after = None
    index._opened.keeper.recovered()
    with Index.open(tmp_path / "plain", embedder) as plain:
        plain.add([docs])
        assert found(index) == found(plain)
        where = parse_condition("weight = 7")
        assert found(index, where=where) == found(plain, where=where)
    assert index.store_problem is None


def test_a_store_that_is_away_stops_nothing_and_is_told(kept, monkeypatch, tmp_path, embedder):
    index, docs = kept
    broken = Broken(monkeypatch)
    broken.after = 0
    write(docs, 3, 33)
    assert index.update().changed == 1
    with Index.open(tmp_path / "plain", embedder) as plain:
        plain.add([docs])
        assert found(index) == found(plain)
    assert "it is away" in index.store_problem
    broken.after = None
    write(docs, 3, 34)
    index.update()
    assert index.store_problem is None
    assert index.compare_store().findings == ()


@pytest.mark.parametrize(
    "calls", [pytest.param(n, marks=[pytest.mark.long] * (n % 3 != 1)) for n in range(1, 9)]
)
def test_an_update_that_dies_at_any_call_of_the_store_is_finished_later(
    calls, kept, monkeypatch, tmp_path, embedder, places
):
    index, docs = kept
    broken = Broken(monkeypatch)
    broken.after, broken.error = calls, KeyboardInterrupt
    monkeypatch.setattr("lmstack.rag.stores.projection._ROWS", 2)
    for number in (0, 1, 8):
        write(docs, number, 55)
    (docs / "a/2.md").unlink()
    with suppress(KeyboardInterrupt):
        index.update()
    (docs / "b/1.md").unlink()  # what was half sent may be gone when work goes on
    broken.after = None
    with Index.open(index.folder, embedder) as again:
        again.update()
        assert again.compare_store().findings == ()
        with Index.open(tmp_path / "new", embedder) as new:
            new.keep_in(places.new("qdrant").url)
            new.add([docs])
            assert content(again) == content(new)


def test_opening_sends_what_was_left_to_send(kept, monkeypatch):
    index, docs = kept
    broken = Broken(monkeypatch)
    broken.after = 0
    write(docs, 7, 7)
    index.update()
    broken.after = None
    Index.open(index.folder).close()
    assert index.compare_store().waiting == 0


def test_a_store_that_lost_its_rows_is_filled_again(kept, tmp_path):
    index, docs = kept
    before = found(index)
    store = store_of(index)
    store.clear()
    assert found(index) == before
    assert "returned 0 of" in index.store_problem
    write(docs, 7, 7)
    index.update()
    assert index.store_problem is None
    assert index.compare_store().findings == ()
    assert store.count() == index.status(check=False).chunks
    store.close()


def test_rows_that_no_document_has_are_taken_out(kept):
    index, docs = kept
    store = store_of(index)
    row = store.fetch(np.array(sorted(store.ids()), np.int64))[0]
    store.upsert(np.array([9999]), row.vector[None], [row.fields])
    write(docs, 7, 7)
    index.update()
    assert 9999 not in set(store.ids())
    assert store.count() == index.status(check=False).chunks
    assert index.compare_store().findings == ()
    store.close()


def test_a_caller_finds_through_the_store_only_what_it_may_see(tmp_path, embedder, places):
    docs = corpus(tmp_path / "docs", 8)
    for number in (0, 1, 2, 3):
        path = docs / f"{'ab'[number % 2]}/{number}.md"
        labels = ("hr", "[hr, board]")[number % 2]
        path.write_text(path.read_text().replace("---\n", f"---\naccess: {labels}\n", 1))
    with Index.open(tmp_path / "kept", embedder) as kept:
        kept.keep_in(places.new("qdrant").url)
        kept.add([docs])
        for labels, hidden in ((set(), range(4)), ({"hr"}, (1, 3)), ({"hr", "board"}, ())):
            view = kept.seen_by(frozenset(labels))
            paths = {str(path) for hits in found(view) for path, *_ in hits}
            assert paths
            assert all(f"{number}.md" not in {Path(p).name for p in paths} for number in hidden)
            for number in hidden:
                (docs / f"{'ab'[number % 2]}/{number}.md").rename(tmp_path / f"{number}.away")
            with Index.open(tmp_path / f"open{len(labels)}", embedder) as plain:
                plain.add([docs])
                assert found(view, modes=("dense",)) == found(plain, modes=("dense",))
            for number in hidden:
                (tmp_path / f"{number}.away").rename(docs / f"{'ab'[number % 2]}/{number}.md")


def test_a_document_whose_fields_no_store_keeps_is_found_all_the_same(
    tmp_path, embedder, places, monkeypatch
):
    monkeypatch.setattr("lmstack.rag.stores.rows.MAX_INTEGER", 10_000)
    docs = corpus(tmp_path / "docs", 4)
    (docs / "odd.md").write_text("---\nserial: 20000\n---\nquartz quartz quartz\n")
    with Index.open(tmp_path / "kept", embedder) as kept:
        kept.keep_in(places.new("qdrant").url)
        kept.add([docs])
        hits = kept.search("quartz quartz quartz", 50, "dense")
        assert any(hit.path.endswith("odd.md") for hit in hits)
        report = kept.compare_store()
        assert (report.findings, report.waiting) == ((), 1)


def test_another_embedder_gets_rows_of_its_own(kept, tmp_path, make_embedder):
    index, docs = kept
    old = store_of(index)
    other = make_embedder(DIMENSIONS + 4, seed="b")
    index.reembed(other)
    with Index.open(index.folder, other) as again, Index.open(tmp_path / "new", other) as plain:
        plain.add([docs])
        assert found(again) == found(plain)
        assert again.store_problem is None
        report = again.compare_store()
        assert (report.findings, report.waiting) == ((), 0)
        assert report.rows == again.status(check=False).chunks
        assert old.count() == 0
    old.close()


def test_labels_given_later_reach_the_store(kept):
    index, docs = kept
    index.set_labels([docs / "a"], ["hr"])
    assert index.compare_store().findings == ()
    assert index.compare_store().waiting == 0
    for hits in found(index.seen_by(frozenset())):
        assert hits
        assert all("/a/" not in str(path) for path, *_ in hits)


def test_an_index_in_postgresql_keeps_a_store_too(places, tmp_path, embedder):
    url = places.new("postgres").url.partition("#")[0]
    docs = corpus(tmp_path / "docs", 5)
    with Index.open(url, embedder) as kept, Index.open(tmp_path / "plain", embedder) as plain:
        plain.add([docs])
        kept.keep_in(places.new("qdrant").url)
        kept.add([docs])
        (docs / "a/0.md").unlink()
        kept.update()
        plain.update()
        assert found(kept) == found(plain)
        report = kept.compare_store()
        assert (report.findings, report.waiting, kept.store_problem) == ((), 0, None)


def test_moving_fills_compares_switches_and_empties(kept, places):
    index, _ = kept
    target = places.new("weaviate").url
    before, old = found(index), store_of(index)
    seen = []
    report = index.move_store(target, lambda *p: seen.append(p))
    assert report.findings == ()
    assert seen[-1] == (report.rows, report.rows)
    assert index.status(check=False).store == target
    assert old.count() == 0
    assert found(index) == before
    assert index.move_store(target).rows == report.rows
    assert found(index) == before
    index.move_store(None)
    assert index.status(check=False).store is None
    assert found(index) == before
    assert index.compare_store() is None
    old.close()


def test_a_move_that_stopped_goes_on(kept, places, monkeypatch):
    index, _ = kept
    monkeypatch.setattr("lmstack.rag.stores.projection._ROWS", 2)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    target = places.new("weaviate").url
    with pytest.raises(KeyboardInterrupt):
        index.move_store(target, stop)
    assert index.status(check=False).store.startswith("qdrant+")
    seen = []
    report = index.move_store(target, lambda *p: seen.append(p))
    assert report.rows == index.status(check=False).chunks
    assert seen[0][1] < report.rows


def test_a_copy_that_is_not_right_is_not_switched_to(kept, places, monkeypatch):
    index, _ = kept
    fetch = Guarded.__getattr__
    broken = Broken(monkeypatch)
    monkeypatch.setattr(
        Guarded,
        "__getattr__",
        lambda self, name: (lambda _: []) if name == "fetch" else fetch(self, name),
    )
    assert broken.after is None
    with pytest.raises(IntegrityError, match="not in the store"):
        index.move_store(places.new("weaviate").url)
    assert index.status(check=False).store.startswith("qdrant+")


def test_comparing_names_what_differs(kept):
    index, _ = kept
    store = store_of(index)
    first, second, *_ = store.fetch(np.array(sorted(store.ids()), np.int64))
    store.upsert(np.array([first.id]), second.vector[None], [first.fields])
    assert "another vector" in index.compare_store().findings[0]
    store.upsert(np.array([first.id]), first.vector[None], [{**first.fields, "weight": 1000}])
    assert "other fields" in index.compare_store().findings[0]
    store.delete(np.array([first.id]))
    assert "not in the store" in index.compare_store().findings[0]
    store.upsert(np.array([first.id, 9999]), np.stack([first.vector] * 2), [first.fields] * 2)
    assert "of no document" in index.compare_store().findings[0]
    store.close()


def test_a_store_of_another_index_is_left_alone(kept, tmp_path, embedder):
    index, _ = kept
    url = index.status(check=False).store
    with Index.open(tmp_path / "other", embedder) as other:
        with pytest.raises(InputError, match="something else"):
            other.keep_in(url)
        assert other.status(check=False).store is None
        with pytest.raises(InputError, match="keeps its vectors in"):
            index.keep_in(f"faiss:{tmp_path}/faiss")


def test_the_address_of_each_space_is_its_own():
    for url, expected in {
        "chroma:/x": "chroma:/x#lmstack-3",
        "chroma:/x#name": "chroma:/x#name-3",
        "chroma+http://h:1": "chroma+http://h:1/lmstack-3",
        "chroma+http://h:1/name": "chroma+http://h:1/name-3",
        "qdrant+http://h:1/name": "qdrant+http://h:1/name-3",
        "postgresql://h/d#t": "postgresql://h/d#t_3",
        "postgresql://h/d": "postgresql://h/d#lmstack_vectors_3",
        "weaviate+https://h/Docs": "weaviate+https://h/Docs_3",
        "weaviate+https://h": "weaviate+https://h/Lmstack_3",
        "pinecone://h": "pinecone://h#lmstack-3",
    }.items():
        assert str(parse_address(url).of_space(3)) == expected


def test_a_store_that_is_no_more_is_named_and_can_be_left(kept, monkeypatch):
    """An index that an earlier version kept in `sqlite:` or `qdrant:FOLDER`."""
    index, _ = kept
    before = found(index)
    with index._database.writing() as connection:
        connection.exec_driver_sql("UPDATE meta SET value = 'sqlite:/x' WHERE key = 'store'")
    assert found(index) == before
    assert "'sqlite:/x' is not known" in index.store_problem
    index.move_store(None)
    assert index.store_problem is None
