"""The store that needs nothing: one SQLite file, or memory, and an exact scan."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores.mirror import Mirror
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors
from lmstack.rag.stores.rows import checked_ids, checked_query, checked_rows
from lmstack.rag.stores.table import RowTable

__all__ = ["EmbeddedStore"]


class EmbeddedStore:
    """Exact. Any number of threads and processes. ``path`` None: in memory only."""

    def __init__(self, path: Path | None, dimensions: int, *, create: bool = True) -> None:
        self._dimensions = dimensions
        self._table = RowTable(path, dimensions, create=create)
        self._mirror = Mirror(dimensions)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        return "memory" if self._table.path is None else f"sqlite:{self._table.path}"

    @property
    def dimensions(self) -> int:
        return self._dimensions

    @property
    def exact(self) -> bool:
        return True

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        self._table.put(*checked_rows(ids, vectors, fields, self._dimensions))

    def delete(self, ids: Ids) -> None:
        self._table.take(checked_ids(ids))

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        vector = checked_query(vector, k, self._dimensions)
        with self._lock:
            self._mirror.refresh(self._table)
            return self._nearest(vector, k, where)

    def _nearest(self, vector: Vectors, k: int, where: Filter | None) -> list[Found]:
        return self._mirror.scan(vector, k, self._mirror.matching(where))

    def fetch(self, ids: Ids) -> list[Stored]:
        return self._table.fetch(checked_ids(ids))

    def ids(self) -> Iterator[int]:
        return iter(self._table.ids())

    def count(self) -> int:
        return self._table.count()

    def clear(self) -> None:
        self._table.clear()

    def close(self) -> None:
        self._table.close()
