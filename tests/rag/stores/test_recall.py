"""The recall of approximate stores at their defaults, half of the vectors in clusters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from tests.rag.stores.model import unit
from tests.rag.stores.places import Places

from lmstack.rag.filters import Condition
from lmstack.rag.retrieve.dense import Dense, DenseSegment
from lmstack.rag.stores import VectorStore, graph, open_store

DIMENSIONS = 32
QUERIES = 60


def make_rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors, and queries of which half are near some vector."""
    rng = np.random.default_rng(0)
    centres = unit(rng, 50, DIMENSIONS)[rng.integers(0, 50, count // 2)]
    clustered = centres + 0.1 * rng.normal(size=centres.shape)
    vectors = np.concatenate([unit(rng, count - len(centres), DIMENSIONS), clustered])
    queries = vectors[rng.integers(0, count, QUERIES)] + 0.05 * rng.normal(size=(1, DIMENSIONS))
    queries[::2] = unit(rng, QUERIES // 2, DIMENSIONS)
    vectors, queries = (m / np.linalg.norm(m, axis=1, keepdims=True) for m in (vectors, queries))
    order = rng.permutation(count)
    return vectors[order].astype(np.float32), queries.astype(np.float32)


def recall_of(store: VectorStore, count: int) -> dict[str, float]:
    vectors, queries = make_rows(count)
    numbers = np.arange(count)
    for start in range(0, count, 2000):
        ids = numbers[start : start + 2000]
        store.upsert(ids, vectors[ids], [{"part": int(i % 10), "rare": int(i % 500)} for i in ids])
    assert not store.exact
    found = {}
    for name, where, mask in (
        ("all", None, numbers >= 0),
        ("a tenth", Condition("part", "=", 3), numbers % 10 == 3),
        ("few", Condition("rare", "=", 3), numbers % 500 == 3),
    ):
        hits = wanted = 0
        ids = np.flatnonzero(mask)
        for query in queries:
            true = ids[np.argsort(-(vectors[ids] @ query))[:10]]
            hits += len({one.id for one in store.search(query, 10, where)} & set(true.tolist()))
            wanted += len(true)
        found[name] = hits / wanted
    print(f"\nrecall@10 at {count:,} rows of {store.name}: {found}")
    return found


def check(places: Places, kind: str, count: int) -> None:
    store = open_store(places.new(kind).url, DIMENSIONS)
    try:
        found = recall_of(store, count)
    finally:
        store.close()
    assert min(found.values()) >= 0.95, found


def recall_of_graph(count: int, monkeypatch: pytest.MonkeyPatch, exact: int) -> dict[str, float]:
    """As `recall_of`, with masks instead of filters."""
    monkeypatch.setattr(graph, "EXACT_UP_TO", exact)
    monkeypatch.setattr(graph.Graph, "_load", lambda graph, connection: graph._drop())
    space = SimpleNamespace(id=1, dimensions=DIMENSIONS)
    cache = graph.Graph(None, "faiss:nowhere", space, None)
    vectors, queries = make_rows(count)
    numbers, places = np.arange(count), np.arange(count, dtype=np.int32)
    found = {}
    for name, mask in (("all", None), ("a half", numbers % 2 == 1), ("a tenth", numbers % 10 == 3)):
        corpus = SimpleNamespace(
            generation=1,
            chunk_ids=7 * numbers,
            places=places,
            dense=Dense([DenseSegment(vectors)], places),
            visible=lambda held: None,
            allowed=lambda held, where, mask=mask: mask,
        )
        hits, ids = 0, numbers if mask is None else np.flatnonzero(mask)
        for query in queries:
            true = ids[np.argsort(-(vectors[ids] @ query))[:10]]
            rows, _ = cache.nearest(None, corpus, query, 10, where=None, held=None)
            hits += len({*rows.tolist()} & {*true.tolist()})
        found[name] = hits / len(queries) / 10
    print(f"\nrecall@10 at {count:,} rows of a graph: {found}")
    return found


def test_recall_of_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(recall_of_graph(5000, monkeypatch, exact=5).values()) >= 0.95


@pytest.mark.long
def test_recall_of_a_graph_of_20_000_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    assert min(recall_of_graph(20_000, monkeypatch, exact=30).values()) >= 0.95


@pytest.mark.parametrize(("kind", "count"), [("chroma", 1500), ("postgres", 1200)])
def test_recall_of_a_small_store(places: Places, kind: str, count: int) -> None:
    check(places, kind, count)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["chroma", "chroma-server", "postgres"])
def test_recall_of_20_000_rows(places: Places, kind: str) -> None:
    check(places, kind, 20_000)
