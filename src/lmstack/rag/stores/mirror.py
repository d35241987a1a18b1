"""The rows of a table in memory, brought up to date from its log, and an exact scan over them.

A row that is replaced gets a new place and its old place goes dead, so that an index built over
places (HNSW) never has to change what it holds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from lmstack.rag.filters import Fields, Filter
from lmstack.rag.stores.protocol import Found, Ids, Vectors
from lmstack.rag.stores.rows import dump, load
from lmstack.rag.stores.table import RowTable

__all__ = ["Mirror", "best"]

_FEWEST = 1024


class Mirror:
    """Not thread-safe. Places ascend; ``live`` says which still count."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._empty()
        self.revision = 0
        self.epoch = 0

    def _empty(self) -> None:
        self.size = 0
        self._ids = np.empty(_FEWEST, np.int64)
        self._vectors = np.empty((_FEWEST, self._dimensions), np.float32)
        self._live = np.zeros(_FEWEST, np.bool_)
        self._kind = np.empty(_FEWEST, np.int32)
        self._place: dict[int, int] = {}
        # Chunks of one document share their fields: each is read and judged once.
        self._kinds: dict[str, int] = {}
        self._fields: list[Fields] = []

    @property
    def ids(self) -> Ids:
        return self._ids[: self.size]

    @property
    def vectors(self) -> Vectors:
        return self._vectors[: self.size]

    @property
    def live(self) -> npt.NDArray[np.bool_]:
        return self._live[: self.size]

    @property
    def count(self) -> int:
        return len(self._place)

    def refresh(self, table: RowTable) -> None:
        """Take over what changed in the table. ``epoch`` grows when places lose their meaning:
        after a clear, and when more than half are dead."""
        now, void, changes = table.changes(self.revision)
        if void:
            self._empty()
            self.epoch += 1
        for change in changes:
            place = self._place.pop(change.id, None)
            if place is not None:
                self._live[place] = False
            if change.vector is not None:
                self._append(change.id, change.vector, change.fields)
        self.revision = now
        if self.size > _FEWEST and 2 * self.count < self.size:
            self._compact()

    def adopt(self, ids: Ids, revision: int, table: RowTable) -> bool:
        """Give ``ids`` (-1: dead) the places they had at ``revision``; whether the table still
        knows what changed since."""
        now, void, changes = table.changes(revision)
        if void or now < revision:
            return False
        gone = {change.id for change in changes}
        rows = {row.id: row for row in table.fetch(ids[ids >= 0])}
        for id in ids.tolist():
            row = None if id in gone else rows.get(id)
            if row is None:
                self._append(-1, np.zeros(self._dimensions, np.float32), "{}")
                del self._place[-1]
                self._live[self.size - 1] = False
            else:
                self._append(id, row.vector, dump(row.fields))
        self.revision = revision
        return True

    def _append(self, id: int, vector: Vectors, fields: str) -> None:
        if self.size == len(self._ids):
            self._grow()
        if fields not in self._kinds:
            self._kinds[fields] = len(self._fields)
            self._fields.append(load(fields))
        place = self.size
        self._ids[place], self._vectors[place] = id, vector
        self._live[place], self._kind[place] = True, self._kinds[fields]
        self._place[id] = place
        self.size += 1

    def _grow(self) -> None:
        room = 2 * len(self._ids)
        for name in ("_ids", "_vectors", "_live", "_kind"):
            old = getattr(self, name)
            new = np.zeros((room, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def _compact(self) -> None:
        kept = np.flatnonzero(self.live)
        for name in ("_ids", "_vectors", "_kind"):
            array = getattr(self, name)
            array[: len(kept)] = array[kept]
        self.size = len(kept)
        self._live[:] = False
        self._live[: self.size] = True
        self._place = {int(id): place for place, id in enumerate(self.ids)}
        self.epoch += 1

    def matching(self, where: Filter | None) -> npt.NDArray[np.bool_]:
        """Which places are live and match."""
        if where is None:
            return self.live
        judged = np.fromiter((where.matches(f) for f in self._fields), np.bool_, len(self._fields))
        return self.live & judged[self._kind[: self.size]]

    def scan(self, vector: Vectors, k: int, mask: npt.NDArray[np.bool_]) -> list[Found]:
        """The exact nearest among the places of ``mask``."""
        places = np.flatnonzero(mask)
        all_of_them = len(places) == self.size
        rows = self.vectors if all_of_them else self.vectors[places]
        return best(self.ids[places], rows @ vector, k)


def best(ids: Ids, scores: Vectors, k: int) -> list[Found]:
    """The ``k`` highest scores, equal ones by ascending id."""
    if k < len(scores):
        bar = np.partition(scores, len(scores) - k)[len(scores) - k]
        kept = np.flatnonzero(scores >= bar)
        ids, scores = ids[kept], scores[kept]
    order = np.lexsort((ids, -scores))[:k]
    return [Found(int(ids[i]), float(scores[i])) for i in order]
