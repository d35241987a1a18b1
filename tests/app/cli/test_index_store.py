"""`lmstack index` with a store of vectors besides."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import pytest
from tests.rag.stores.model import DIMENSIONS
from tests.rag.stores.places import NAMES, in_turn

from lmstack.rag.catalogue.schema import VectorForm
from lmstack.rag.stores import open_store
from lmstack.rag.stores.address import parse_address

if TYPE_CHECKING:
    from tests.app.conftest import HashEmbedder, Run
    from tests.rag.stores.places import Places

KEPT = (*NAMES, "faiss")


def test_an_index_keeps_a_store_moves_and_is_compared_with_it(
    run: Run, docs: Path, embedder: HashEmbedder, places: Places
) -> None:
    kept = places.new("qdrant").url
    add = run("index", "add", "--index", "my.idx", "--store", kept, "docs")
    assert add.code == 0
    assert run("index", "status", "--index", "my.idx", "--json").json["store"] == kept
    hits = run("search", "port server", "--index", "my.idx", "--json").json
    assert hits
    moved = run("index", "move", "--index", "my.idx", "--to", "faiss:my.faiss", "--json").json
    assert moved["report"]["findings"] == []
    store = run("index", "status", "--index", "my.idx", "--json").json["store"]
    assert store == f"faiss:{Path('my.faiss').absolute()}"
    assert run("search", "port server", "--index", "my.idx", "--json").json == hits
    report = run("index", "verify", "--index", "my.idx", "--json").json
    assert (report["ok"], report["store"]["rows"]) == (True, report["chunks"])
    back = run("index", "move", "--index", "my.idx", "--to", "none")
    assert "searched by itself" in back.out
    assert run("index", "verify", "--index", "my.idx", "--json").json["store"] is None


def test_a_store_that_is_away_is_told_and_the_search_goes_on(
    run: Run, docs: Path, embedder: HashEmbedder
) -> None:
    run("index", "add", "--index", "my.idx", "--store", "chroma:away", "docs")
    hits = run("search", "port server", "--index", "my.idx", "--mode", "dense", "--json").json
    shutil.rmtree("away")
    Path("away").write_text("in the way")
    ran = run("search", "port server", "--index", "my.idx", "--mode", "dense", "--json")
    assert ran.json == hits
    assert "warning: without its store" in ran.err


def test_a_store_that_differs_fails_the_check(
    run: Run, docs: Path, embedder: HashEmbedder, places: Places
) -> None:
    kept = places.new("qdrant").url
    run("index", "add", "--index", "my.idx", "--store", kept, "docs")
    store = open_store(parse_address(kept).of_space(1), embedder.dimensions, create=False)
    for row in store.fetch(np.array([*store.ids()])):
        store.upsert(np.array([row.id]), row.vector[None], [{}])
    store.close()
    ran = run("index", "verify", "--index", "my.idx")
    assert ran.code == 1
    assert "differs from the index" in ran.err
    again = run("index", "move", "--index", "my.idx", "--to", kept)
    assert again.code == 0
    assert run("index", "verify", "--index", "my.idx").code == 0


@pytest.mark.parametrize(("kind", "form"), in_turn(KEPT, get_args(VectorForm)))
def test_every_form_of_vectors_goes_into_every_store(
    run: Run, docs: Path, embedder: HashEmbedder, places: Places, kind: str, form: str
) -> None:
    embedder.dimensions = DIMENSIONS
    kept = places.new(kind)
    add = run(
        *("index", "add", "--index", "my.idx", "--vectors", form, "--store", kept.url, "docs")
    )
    assert (add.code, add.err.count("warning")) == (0, 0)
    search = run("search", "port server", "--index", "my.idx", "--mode", "dense", "--json")
    assert (search.code, search.err.count("warning")) == (0, 0)
    (docs / "ports.txt").unlink()
    assert run("index", "update", "--index", "my.idx").code == 0
    report = run("index", "verify", "--index", "my.idx", "--json").json
    assert (report["store"]["findings"], report["store"]["waiting"]) == ([], 0)
    assert report["store"]["rows"] == report["chunks"]
    assert run("index", "move", "--index", "my.idx", "--to", "none").code == 0


@pytest.mark.parametrize(
    "store", ["rows", "faiss", "faiss:", "faiss:/", "nothing:x", "sqlite:x", "none", "chroma:x#a"]
)
def test_a_store_that_cannot_be_is_refused_before_anything_is_written(
    run: Run, docs: Path, embedder: HashEmbedder, store: str
) -> None:
    before = sorted(Path().iterdir())
    ran = run("index", "add", "--index", "my.idx", "--vectors", "int8", "--store", store, "docs")
    assert ran.code == 1
    assert ran.err.count("\n") == 2
    assert ran.err.startswith("error: ")
    assert sorted(Path().iterdir()) == before


def test_a_document_that_the_store_does_not_take_is_told(
    run: Run,
    docs: Path,
    embedder: HashEmbedder,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lmstack.rag.stores.rows.MAX_INTEGER", 10_000)
    (docs / "odd.md").write_text("---\nserial: 20000\n---\nquartz\n")
    kept = places.new("qdrant").url
    ran = run("index", "add", "--index", "my.idx", "--store", kept, "docs")
    assert "not in the store, found by scanning the index: 1; the first is" in ran.err
