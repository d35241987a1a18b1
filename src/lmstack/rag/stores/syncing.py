"""Keeping a store of vectors in step with the index, whatever dies on the way.

The index remembers, for each store and document, at which revision the store acknowledged its
rows. Before rows are sent it notes that they may be there, so that a row in the store is always
known here and can be taken out again. Every step may be repeated. Covers filling and emptying;
`candidates` searches, `comparison` checks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from lmstack.core import InputError, LmstackError
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.fields import all_fields, load_fields
from lmstack.rag.catalogue.memory import Key, absolute_path, get_meta, source_roots
from lmstack.rag.catalogue.rows import set_meta
from lmstack.rag.catalogue.schema import documents, vectors
from lmstack.rag.catalogue.spaces import Space
from lmstack.rag.catalogue.vector_blob import unpack_vectors
from lmstack.rag.filters import Fields, Value
from lmstack.rag.stores import VectorStore, open_store
from lmstack.rag.stores.address import parse_address
from lmstack.rag.stores.rows import checked_rows

__all__ = [
    "ACCESS",
    "Loaded",
    "Projected",
    "Projection",
    "Synced",
    "access_of",
    "documents_of",
    "load_documents",
    "wanted_documents",
]

# The field with a document's access labels; its name is none that a document is likely to use.
ACCESS = "lmstack.access"
PENDING = -1
_ROWS = 1000
_DOCUMENTS = 400
_TABLES = sa.MetaData()
# What a store holds. ``revision`` is PENDING while its rows may be there or not.
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
    """A document's rows in a store: ids ``first_chunk`` to ``first_chunk + rows - 1``."""

    id: int
    revision: int
    first_chunk: int
    rows: int

    @property
    def ids(self) -> range:
        return range(self.first_chunk, self.first_chunk + self.rows)


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync sent and took out, in rows. ``refused``: why, for each document that no
    store keeps (a field of theirs cannot be written); a search scans them in the index."""

    sent: int
    removed: int
    refused: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A document as a store is to hold it."""

    rows: Projected
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]]
    fields: Fields


class Projection:
    """The store at ``url`` for one space of an index. Opens it when it is first needed.
    Thread-safe; `sync` is for whoever holds the writer's lock."""

    def __init__(self, database: Database, url: str, space: Space) -> None:
        self.url = url
        self.space = space
        self._database = database
        self._lock = threading.Lock()
        self._store: VectorStore | None = None

    def opened(self) -> VectorStore:
        with self._lock:
            if self._store is None:
                address = parse_address(self.url).of_space(self.space.id)
                self._store = open_store(address, self.space.dimensions)
            return self._store

    def close(self) -> None:
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def adopt(self) -> None:
        """Begin to keep this store. `InputError` if something else is in it."""
        with self._database.writing() as connection:
            _TABLES.create_all(connection, checkfirst=True)
        held = self.opened().count()
        with self._database.reading() as connection:
            known = documents_of(connection, self.url, self.space.id)
        if held and not known:
            raise InputError(
                f"{self.opened().name} holds {held} vectors of something else",
                hint="give another name, or another folder",
                param="store",
            )

    def sync(self, progress: Callable[[int, int], None] | None = None) -> Synced:
        """Bring the store in step. ``progress`` is told how many rows of how many are done."""
        store = self.opened()
        self._leave_other_spaces()
        with self._database.reading() as connection:
            wanted = wanted_documents(connection, self.space.id)
            known = documents_of(connection, self.url, self.space.id)
        known = self._counted(store, known)
        removed = self._take_out(store, [d for d in known.values() if not _same(d, wanted)])
        known = {i: d for i, d in known.items() if _same(d, wanted)}
        stale = [d for i, d in wanted.items() if i not in known or known[i].revision != d.revision]
        sent, total = 0, sum(d.rows for d in stale)
        refused: list[str] = []
        for batch in _batches(stale):
            loaded, out = self._keepable(self._load(batch))
            refused += out
            self._send(store, loaded)
            sent += sum(d.rows.rows for d in loaded)
            if progress is not None:
                progress(sent, total)
        return Synced(sent, removed, tuple(refused))

    def forget(self, *, empty: bool) -> None:
        """Stop keeping this store, and ``empty`` it."""
        if empty:
            with suppress(LmstackError):  # one that cannot be reached is left as it is
                self.opened().clear()
        with self._database.writing() as connection:
            connection.execute(sa.delete(projected).where(projected.c.store == self.url))
            _count_change(connection)

    def _counted(self, store: VectorStore, known: dict[int, Projected]) -> dict[int, Projected]:
        """``known`` as the store has it: all is well if it holds as many rows as it should,
        otherwise each is looked for, and rows that nobody knows are taken out."""
        settled = all(d.revision != PENDING for d in known.values())
        if settled and store.count() == sum(d.rows for d in known.values()):
            return known
        held = set(store.ids())
        ours = {id for d in known.values() for id in d.ids}
        strange = np.array(sorted(held - ours), np.int64)
        if len(strange):
            store.delete(strange)
        return {
            i: d if held.issuperset(d.ids) else Projected(i, PENDING, d.first_chunk, d.rows)
            for i, d in known.items()
        }

    def _take_out(self, store: VectorStore, gone: Sequence[Projected]) -> int:
        for batch in _batches(gone):
            store.delete(np.array([id for d in batch for id in d.ids], np.int64))
            with self._database.writing() as connection:
                self._forget_documents(connection, [d.id for d in batch])
                _count_change(connection)
        return sum(d.rows for d in gone)

    def _forget_documents(self, connection: sa.Connection, ids: Sequence[int]) -> None:
        for start in range(0, len(ids), _DOCUMENTS):
            connection.execute(
                sa.delete(projected).where(
                    (projected.c.store == self.url)
                    & (projected.c.space_id == self.space.id)
                    & projected.c.document_id.in_(ids[start : start + _DOCUMENTS])
                )
            )

    def _send(self, store: VectorStore, loaded: Sequence[Loaded]) -> None:
        if not loaded:
            return
        self._note([Projected(d.rows.id, PENDING, d.rows.first_chunk, d.rows.rows) for d in loaded])
        store.upsert(
            np.array([id for d in loaded for id in d.rows.ids], np.int64),
            np.concatenate([d.vectors for d in loaded]),
            [d.fields for d in loaded for _ in d.rows.ids],
        )
        self._note([d.rows for d in loaded])

    def _note(self, rows: Sequence[Projected]) -> None:
        with self._database.writing() as connection:
            self._forget_documents(connection, [d.id for d in rows])
            connection.execute(
                sa.insert(projected),
                [
                    {
                        "store": self.url,
                        "space_id": self.space.id,
                        "dimensions": self.space.dimensions,
                        "document_id": d.id,
                        "revision": d.revision,
                        "first_chunk": d.first_chunk,
                        "rows": d.rows,
                    }
                    for d in rows
                ],
            )
            _count_change(connection)

    def _load(self, batch: Sequence[Projected]) -> list[Loaded]:
        with self._database.reading() as connection:
            return list(load_documents(connection, self.space.id, batch))

    def _keepable(self, loaded: Sequence[Loaded]) -> tuple[list[Loaded], list[str]]:
        """Those that a store takes, and why it does not take the others."""
        kept, refused = [], []
        for one in loaded:
            ids = np.array(one.rows.ids, np.int64)
            try:
                checked_rows(ids, one.vectors, [one.fields] * len(ids), self.space.dimensions)
                kept.append(one)
            except InputError as error:
                refused.append(f"{one.fields['path']}: {error.message}")
        return kept, refused

    def _leave_other_spaces(self) -> None:
        """Empty what was kept for embedders that the index no longer has."""
        columns = projected.c
        query = sa.select(columns.space_id, columns.dimensions).distinct()
        elsewhere = (columns.store == self.url) & (columns.space_id != self.space.id)
        with self._database.reading() as connection:
            others = connection.execute(query.where(elsewhere)).all()
        for space_id, dimensions in others:
            with suppress(LmstackError):  # what is left there, nobody finds
                address = parse_address(self.url).of_space(space_id)
                old = open_store(address, dimensions, create=False)
                old.clear()
                old.close()
            with self._database.writing() as connection:
                connection.execute(
                    sa.delete(projected).where(
                        (projected.c.store == self.url) & (projected.c.space_id == space_id)
                    )
                )


def access_of(labels: Iterable[str]) -> str:
    """A set of labels as one text."""
    return " ".join(sorted(labels))


def documents_of(connection: sa.Connection, url: str, space_id: int) -> dict[int, Projected]:
    """What the store at ``url`` is known to hold, by document."""
    rows = connection.execute(
        sa.select(
            projected.c.document_id,
            projected.c.revision,
            projected.c.first_chunk,
            projected.c.rows,
        ).where((projected.c.store == url) & (projected.c.space_id == space_id))
    )
    return {row[0]: Projected(*row) for row in rows}


def load_documents(
    connection: sa.Connection, space_id: int, batch: Sequence[Projected]
) -> Iterator[Loaded]:
    """Documents as a store is to hold them, those of ``batch`` that are there."""
    roots = source_roots(connection)
    by_id = {d.id: d for d in batch}
    rows = connection.execute(
        sa.select(documents, vectors.c.rows, vectors.c.dimensions, vectors.c.data)
        .join_from(documents, vectors, vectors.c.document_id == documents.c.id)
        .where((vectors.c.space_id == space_id) & documents.c.id.in_(list(by_id)))
    )
    for row in rows:
        root = roots[row.source_id]
        path = absolute_path(roots, Key(row.source_id, row.path))
        known: dict[str, Value] = dict(all_fields(row, load_fields(row.fields), root, path))
        known[ACCESS] = access_of(json.loads(row.labels))
        matrix = unpack_vectors(row.data, row.rows, row.dimensions)
        yield Loaded(by_id[row.id], matrix, known)


def wanted_documents(connection: sa.Connection, space_id: int) -> dict[int, Projected]:
    """What the space holds of each document, at its revision now."""
    rows = connection.execute(
        sa.select(documents.c.id, documents.c.revision, vectors.c.first_chunk, vectors.c.rows)
        .join_from(documents, vectors, vectors.c.document_id == documents.c.id)
        .where(vectors.c.space_id == space_id)
    )
    return {row.id: Projected(row.id, row.revision, row.first_chunk, row.rows) for row in rows}


def _same(known: Projected, wanted: dict[int, Projected]) -> bool:
    """Whether the index still has the rows that the store was sent, of whatever revision."""
    now = wanted.get(known.id)
    return now is not None and now.ids == known.ids


def _count_change(connection: sa.Connection) -> None:
    """Searches cache what is in the store by this number."""
    state = int(get_meta(connection).get("store_state", "0")) + 1
    set_meta(connection, store_state=str(state))


def _batches(rows: Sequence[Projected]) -> Iterator[list[Projected]]:
    batch: list[Projected] = []
    count = 0
    for one in rows:
        batch.append(one)
        count += one.rows
        if count >= _ROWS or len(batch) >= _DOCUMENTS:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch
