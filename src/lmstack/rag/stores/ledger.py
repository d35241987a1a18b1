"""What an index knows to be in its store: a row for each store, space and document, with the
revision at which the store acknowledged the document's rows.

Before rows are sent it is noted that they may be there (`PENDING`), so that a row in the store is
always known here and can be taken out again, whatever died. Covers reading and writing these
notes, documents as a store is to hold them, and whether it holds them row by row and finds what
an exact search finds (`recall`); `projection` acts on them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.schema import (
    all_fields,
    documents,
    get_meta,
    load_fields,
    set_meta,
    unpack_vectors,
    vectors,
)
from lmstack.rag.catalogue.snapshot import DocumentKey, absolute_path, source_roots
from lmstack.rag.catalogue.spaces import Space
from lmstack.rag.catalogue.verify import Recall, measure_recall
from lmstack.rag.filters import Fields, Value
from lmstack.rag.stores.rows import Vectors, batches
from lmstack.rag.stores.store import VectorStore

__all__ = [
    "ACCESS",
    "PENDING",
    "Ledger",
    "Loaded",
    "Projected",
    "StoreReport",
    "access_of",
    "compare_store",
]

# The field with a document's access labels; its name is none that a document is likely to use.
ACCESS = "lmstack.access"
PENDING = -1
DOCUMENTS = 400
_STATE = "store_state"
_TABLES = sa.MetaData()
projected = sa.Table(
    "projected",
    _TABLES,
    sa.Column("store", sa.Text, primary_key=True),
    sa.Column("space_id", sa.Integer, primary_key=True),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("document_id", sa.Integer, primary_key=True),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("first_chunk", sa.BigInteger, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Projected:
    """A document's rows in a store: ids ``first_chunk`` to ``first_chunk + rows - 1``.
    ``revision`` is PENDING while they may be there or not."""

    id: int
    revision: int
    first_chunk: int
    rows: int

    @property
    def ids(self) -> range:
        return range(self.first_chunk, self.first_chunk + self.rows)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document as a store is to hold it."""

    rows: Projected
    vectors: Vectors
    fields: Fields


class Ledger:
    """Of the store at ``url`` and one space of the index."""

    def __init__(self, url: str, space: Space) -> None:
        self.url, self.space = url, space
        self._ours = projected.c.store == url
        self._here = self._ours & (projected.c.space_id == space.id)

    def make(self, connection: sa.Connection) -> None:
        _TABLES.create_all(connection, checkfirst=True)

    def held(self, connection: sa.Connection) -> dict[int, Projected]:
        """What the store is known to hold, by document."""
        columns = projected.c
        query = sa.select(
            columns.document_id, columns.revision, columns.first_chunk, columns.rows
        ).where(self._here)
        return {row[0]: Projected(*row) for row in connection.execute(query)}

    def wanted(self, connection: sa.Connection) -> dict[int, Projected]:
        """What it should hold: the rows of each document at its revision now."""
        query = (
            sa.select(documents.c.id, documents.c.revision, vectors.c.first_chunk, vectors.c.rows)
            .join_from(documents, vectors, vectors.c.document_id == documents.c.id)
            .where(vectors.c.space_id == self.space.id)
        )
        return {row[0]: Projected(*row) for row in connection.execute(query)}

    def load(self, connection: sa.Connection, batch: Sequence[Projected]) -> Iterator[Loaded]:
        """Those documents of ``batch`` that are there."""
        roots = source_roots(connection)
        by_id = {d.id: d for d in batch}
        rows = connection.execute(
            sa.select(documents, vectors.c.rows, vectors.c.dimensions, vectors.c.data)
            .join_from(documents, vectors, vectors.c.document_id == documents.c.id)
            .where((vectors.c.space_id == self.space.id) & documents.c.id.in_(list(by_id)))
        )
        for row in rows:
            root = roots[row.source_id]
            path = absolute_path(roots, DocumentKey(row.source_id, row.path))
            fields: dict[str, Value] = dict(all_fields(row, load_fields(row.fields), root, path))
            fields[ACCESS] = access_of(json.loads(row.labels))
            yield Loaded(by_id[row.id], unpack_vectors(row.data, row.rows, row.dimensions), fields)

    def note(self, connection: sa.Connection, rows: Sequence[Projected]) -> None:
        """Take over what is known of some documents now."""
        self.drop(connection, [d.id for d in rows])
        space = {"space_id": self.space.id, "dimensions": self.space.dimensions}
        values = [
            {
                "store": self.url,
                **space,
                "document_id": d.id,
                "revision": d.revision,
                "first_chunk": d.first_chunk,
                "rows": d.rows,
            }
            for d in rows
        ]
        connection.execute(sa.insert(projected), values)

    def drop(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        """Forget documents."""
        for part in batches(len(ids), DOCUMENTS):
            mine = self._here & projected.c.document_id.in_(ids[part])
            connection.execute(sa.delete(projected).where(mine))
        self._count_change(connection)

    def drop_all(self, connection: sa.Connection, space: int | None = None) -> None:
        """Forget everything, or only what is kept for one space."""
        which = self._ours if space is None else self._ours & (projected.c.space_id == space)
        connection.execute(sa.delete(projected).where(which))
        self._count_change(connection)

    def other_spaces(self, connection: sa.Connection) -> list[tuple[int, int]]:
        """Id and dimensions of other spaces whose rows the store has."""
        columns = projected.c
        query = sa.select(columns.space_id, columns.dimensions).distinct()
        rows = connection.execute(query.where(self._ours & (columns.space_id != self.space.id)))
        return [(row[0], row[1]) for row in rows]

    def state(self, connection: sa.Connection) -> str:
        """Another one after each change of these notes."""
        return get_meta(connection).get(_STATE, "0")

    def _count_change(self, connection: sa.Connection) -> None:
        set_meta(connection, **{_STATE: str(int(self.state(connection)) + 1)})


def access_of(labels: Iterable[str]) -> str:
    """A set of labels as one text."""
    return " ".join(sorted(labels))


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
