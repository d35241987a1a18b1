"""What a store must do, in a dict, and how a store's answers are compared with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores import StoreHit, VectorStore

__all__ = ["DIMENSIONS", "Model", "assert_same_rows", "unit"]

DIMENSIONS = 8
TOLERANCE = 2e-5


def unit(rng: np.random.Generator, count: int, dimensions: int = DIMENSIONS) -> np.ndarray:
    vectors = rng.normal(size=(count, dimensions)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Model:
    """The rows by id."""

    def __init__(self) -> None:
        self.rows: dict[int, tuple[np.ndarray, Fields]] = {}

    def upsert(self, ids: Sequence[int], vectors: np.ndarray, fields: Sequence[Fields]) -> None:
        self.rows.update(zip(ids, zip(vectors, fields, strict=True), strict=True))

    def delete(self, ids: Sequence[int]) -> None:
        for id in ids:
            self.rows.pop(id, None)

    def scores(self, vector: np.ndarray, where: Filter | None = None) -> Mapping[int, float]:
        return {
            id: float(row @ vector)
            for id, (row, fields) in self.rows.items()
            if where is None or where.matches(fields)
        }

    def recall(
        self, found: Sequence[StoreHit], vector: np.ndarray, k: int, where: Filter | None = None
    ) -> float:
        """The share of the true results among ``found``, after checking that nothing is found
        that should not be, that the scores are right, and that they descend."""
        true = self.scores(vector, where)
        assert len({one.id for one in found}) == len(found) <= k
        for one in found:
            assert one.id in true, f"{one.id} does not match or is not there"
            assert abs(one.score - true[one.id]) < TOLERANCE
        order = [(-one.score, one.id) for one in found]
        assert order == sorted(order)
        wanted = sorted(true.values(), reverse=True)[:k]
        if not wanted:
            return 1.0
        near = [s for s in (one.score for one in found) if s >= wanted[-1] - TOLERANCE]
        return len(near) / len(wanted)


def assert_same_rows(store: VectorStore, model: Model) -> None:
    assert sorted(store.ids()) == sorted(model.rows)
    assert store.count() == len(model.rows)
    wanted = np.array(sorted(model.rows, reverse=True), np.int64)
    rows = store.fetch(wanted)
    assert [row.id for row in rows] == wanted.tolist()
    for row in rows:
        vector, fields = model.rows[row.id]
        np.testing.assert_allclose(row.vector, vector, atol=1e-6)
        assert row.fields == fields
        assert {n: type(v) for n, v in row.fields.items()} == {
            n: type(v) for n, v in fields.items()
        }
