"""Does a store hold what the index holds, and does it find what an exact search finds?

Row by row: ids, vectors and fields. Then its recall (`recall`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.verify import Recall, measure_recall
from lmstack.rag.filters import Fields
from lmstack.rag.stores.ledger import DOCUMENTS, Ledger, Loaded
from lmstack.rag.stores.rows import Vectors, batches
from lmstack.rag.stores.store import VectorStore

__all__ = ["StoreReport", "compare_store"]

_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class StoreReport:
    """``rows`` compared; ``waiting``: documents that the store does not have yet, or cannot
    keep; they are found by scanning. ``findings`` is empty when all is well."""

    store: str
    rows: int
    waiting: int
    recall: Recall | None
    findings: tuple[str, ...]


def compare_store(database: Database, ledger: Ledger, store: VectorStore) -> StoreReport:
    """Reads every row of the store. `StoreError` if it cannot be reached."""
    findings: list[str] = []
    ids: list[int] = []
    parts = [np.zeros((0, store.dimensions), np.float32)]
    with database.reading() as connection:
        held, wanted = ledger.held(connection), ledger.wanted(connection)
        current = [d for i, d in held.items() if wanted.get(i) == d]
        for part in batches(len(current), DOCUMENTS):
            for one in ledger.load(connection, current[part]):
                findings += _differences(store, one)
                ids += one.rows.ids
                parts.append(one.vectors)
    strange = set(store.ids()) - {id for d in held.values() for id in d.ids}
    if strange:
        findings.append(f"{len(strange)} rows in the store are of no document")

    def find(vector: Vectors, k: int) -> list[int]:
        return [one.id for one in store.search(vector, k)]

    recall = measure_recall(find, np.array(ids, np.int64), np.concatenate(parts))
    return StoreReport(store.name, len(ids), len(wanted) - len(current), recall, tuple(findings))


def _differences(store: VectorStore, one: Loaded) -> list[str]:
    path = one.fields["path"]
    held = {row.id: row for row in store.fetch(np.array(one.rows.ids, np.int64))}
    missing = [id for id in one.rows.ids if id not in held]
    if missing:
        return [f"{path}: {len(missing)} of {one.rows.rows} rows are not in the store"]
    for id, vector in zip(one.rows.ids, one.vectors, strict=True):
        if not np.allclose(held[id].vector, vector, atol=_TOLERANCE):
            return [f"{path}: the store holds another vector for row {id}"]
        if not _equal(held[id].fields, one.fields):
            return [f"{path}: the store holds other fields for row {id}"]
    return []


def _equal(held: Fields, wanted: Fields) -> bool:
    return held == wanted and all(type(held[name]) is type(wanted[name]) for name in wanted)
