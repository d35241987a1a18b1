"""Which documents one search may find: those that match its filter and that its caller may see.

What this needs of each document is kept in memory per state of the index; a change of a few
documents reads only those again. Thread-safe.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass

import sqlalchemy as sa

from lmstack.rag.fields import all_fields, load_fields
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.labels import may_see
from lmstack.rag.memory import Key, absolute_path, source_roots
from lmstack.rag.schema import documents

__all__ = ["Visibility"]

_BATCH = 500


@dataclass(frozen=True, slots=True)
class _Facts:
    revision: int
    labels: frozenset[str]
    fields: Fields


class Visibility:
    """The facts of the newest state seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = -1
        self._facts: dict[int, _Facts] = {}

    def allowed(
        self,
        connection: sa.Connection,
        generation: int,
        where: Filter | None,
        held: frozenset[str] | None,
    ) -> frozenset[int] | None:
        """Ids of the documents in the snapshot of ``connection``, whose generation is given,
        that match ``where`` and that a caller with the labels ``held`` (None: the owner) may
        see; None where that is all of them by definition."""
        if where is None and held is None:
            return None
        facts = self._at(connection, generation)
        return frozenset(
            number
            for number, known in facts.items()
            if may_see(held, known.labels) and (where is None or where.matches(known.fields))
        )

    def _at(self, connection: sa.Connection, generation: int) -> dict[int, _Facts]:
        with self._lock:
            if generation != self._generation:
                self._facts = self._load(connection)
                self._generation = generation
            return self._facts

    def _load(self, connection: sa.Connection) -> dict[int, _Facts]:
        rows = connection.execute(sa.select(documents.c.id, documents.c.revision)).all()
        kept = {
            row.id: self._facts[row.id]
            for row in rows
            if row.id in self._facts and self._facts[row.id].revision == row.revision
        }
        stale = [row.id for row in rows if row.id not in kept]
        roots = source_roots(connection)
        for start in range(0, len(stale), _BATCH):
            wanted = documents.c.id.in_(stale[start : start + _BATCH])
            for row in connection.execute(sa.select(documents).where(wanted)):
                path = absolute_path(roots, Key(row.source_id, row.path))
                own = load_fields(row.fields)
                fields = all_fields(row, own, roots[row.source_id], path)
                kept[row.id] = _Facts(row.revision, frozenset(json.loads(row.labels)), fields)
        return kept
