"""Every form of an index's vectors in every store: what is kept is what the form reads as."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from tests.rag.stores.kept import content, corpus, found, write
from tests.rag.stores.model import DIMENSIONS
from tests.rag.stores.places import NAMES, in_turn

from lmstack.core import InputError
from lmstack.rag import Index, IndexConfig
from lmstack.rag.catalogue.schema import VectorForm, vectors
from lmstack.rag.stores.keeping import StoreKeeper

FORMS = get_args(VectorForm)


@pytest.fixture
def embedder(make_embedder):
    return make_embedder(DIMENSIONS)


def assert_whole(index: Index) -> None:
    report = index.compare_store()
    assert (report.findings, report.waiting) == ((), 0)
    assert report.rows == index.status(check=False).chunks
    assert index.verify().ok
    assert index.store_problem is None


@pytest.mark.parametrize(("kind", "form"), in_turn(NAMES, FORMS))
def test_a_store_holds_the_vectors_of_every_form(kind, form, places, tmp_path, embedder):
    """Added, edited, removed, moved away and back: equal to an index made anew."""
    place, config = places.new(kind), IndexConfig(vectors=form)
    docs = corpus(tmp_path / "docs", 6)
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.keep_in(place.url)
        index.add([docs])
        assert_whole(index)
        write(docs, 2, 50)
        write(docs, 7, 51)
        (docs / "a/4.md").unlink()
        index.update()
        index.remove([docs / "b/3.md"])
        assert_whole(index)
        index.move_store(places.new("qdrant").url)
        index.move_store(place.url)
        assert_whole(index)
        (docs / "b/3.md").unlink()
        with Index.open(tmp_path / "plain", embedder, config=config) as plain:
            plain.keep_in(places.new("qdrant").url)
            plain.add([docs])
            assert content(index) == content(plain)
            plain.move_store(None)
            assert found(index) == found(plain)


@pytest.mark.parametrize("form", FORMS)
def test_an_index_in_postgresql_fills_a_store_in_every_form(places, tmp_path, embedder, form):
    base = places.new("postgres").url.partition("#")[0]
    docs, config = corpus(tmp_path / "docs", 5), IndexConfig(vectors=form)
    with Index.open(f"{base}#form_{form}", embedder, config=config) as index:
        index.keep_in(places.new("qdrant").url)
        index.add([docs])
        assert_whole(index)


@pytest.mark.parametrize("form", FORMS)
def test_another_embedder_fills_the_store_in_the_form_of_the_index(
    form, tmp_path, embedder, make_embedder, places
):
    docs, config = corpus(tmp_path / "docs", 5), IndexConfig(vectors=form)
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.keep_in(places.new("qdrant").url)
        index.add([docs])
        index.reembed(make_embedder(DIMENSIONS + 4, seed="b"))
    with Index.open(tmp_path / "index", make_embedder(DIMENSIONS + 4, seed="b")) as again:
        assert_whole(again)


def test_a_rebuild_in_another_form_replaces_what_the_store_held(tmp_path, embedder, places):
    docs, store = corpus(tmp_path / "docs", 5), places.new("qdrant").url
    for form in ("float32", "binary", "int8"):
        config = IndexConfig(vectors=form)
        with Index.open(tmp_path / "index", embedder, config=config, rebuild=True) as index:
            index.keep_in(store)
            index.add([docs])
            assert_whole(index)


@pytest.mark.parametrize("form", ["int8", "binary"])
def test_an_index_whose_store_was_never_filled_fills_it_when_it_is_opened(
    form, tmp_path, embedder, places, monkeypatch
):
    """What an earlier version left behind: it failed on these forms before the first row."""
    docs, config = corpus(tmp_path / "docs", 5), IndexConfig(vectors=form)
    with monkeypatch.context() as earlier:
        earlier.setattr(StoreKeeper, "sync", lambda keeper, progress=None: None)
        with Index.open(tmp_path / "index", embedder, config=config) as index:
            index.keep_in(places.new("qdrant").url)
            index.add([docs])
            assert index.compare_store().rows == 0
    with Index.open(tmp_path / "index", embedder) as again:
        assert_whole(again)


def test_a_damaged_blob_is_told_and_the_search_names_the_way_out(tmp_path, embedder, places):
    docs: Path = corpus(tmp_path / "docs", 3)
    with Index.open(tmp_path / "index", embedder, config=IndexConfig(vectors="int8")) as index:
        index.add([docs])
        with index._database.writing() as connection:
            connection.execute(vectors.update().values(data=b"123"))
        index.keep_in(places.new("qdrant").url)
        assert "vectors take 3 bytes" in index.store_problem


def test_an_index_without_vectors_takes_another_form(tmp_path, embedder):
    """An `add` that failed before the first document settles nothing."""
    for form in ("binary", "int8"):
        config = IndexConfig(vectors=form)
        with (
            Index.open(tmp_path / "index", embedder, config=config) as index,
            pytest.raises(InputError, match="not known"),
        ):
            index.keep_in("nowhere")
    with Index.open(tmp_path / "index", embedder, config=config) as index:
        index.add([corpus(tmp_path / "docs", 1)])
    with pytest.raises(InputError, match="keeps its vectors as int8"):
        Index.open(tmp_path / "index", embedder, config=IndexConfig(vectors="binary"))


def test_a_document_that_no_store_takes_is_named(tmp_path, embedder, places, monkeypatch):
    monkeypatch.setattr("lmstack.rag.stores.rows.MAX_INTEGER", 10_000)
    docs = corpus(tmp_path / "docs", 1)
    (docs / "odd.md").write_text("---\nserial: 20000\n---\nquartz\n")
    with Index.open(tmp_path / "index", embedder) as index:
        index.keep_in(places.new("qdrant").url)
        index.add([docs])
        (why,) = index.store_refused
        assert "odd.md: field 'serial' is 20000" in why
        (docs / "odd.md").unlink()
        index.update()
        assert index.store_refused == ()
