"""An index's rows in a store: kept in step whatever dies on the way, and searched.

Every step may be repeated. A store is never believed: its candidates are kept only if the state
of the index that is searched has them, is allowed to show them and knows the store to hold them
as they are now; each cosine is computed again, and what the store does not have is scanned.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from lmstack.core import InputError, LmstackError, StoreError
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.rules import may_see
from lmstack.rag.catalogue.spaces import Space
from lmstack.rag.filters import Condition, Filter, all_of
from lmstack.rag.retrieve.corpus import Corpus
from lmstack.rag.retrieve.dense import Mask, Ranked, Rows, best_rows
from lmstack.rag.stores.address import open_store, parse_address
from lmstack.rag.stores.ledger import (
    ACCESS,
    DOCUMENTS,
    PENDING,
    Ledger,
    Loaded,
    Projected,
    StoreReport,
    access_of,
    compare_store,
)
from lmstack.rag.stores.rows import StoreHit, Vectors, checked_rows
from lmstack.rag.stores.store import VectorStore

__all__ = ["Progress", "Projection", "Synced"]

Progress = Callable[[int, int], None]
_ROWS = 1000
_SLACK = 16
_MOST = 10_000
_ACCESS_SETS = 500


@dataclass(frozen=True, slots=True)
class Synced:
    """What one sync sent and took out, in rows. ``refused``: why, for each document that no
    store keeps (a field of theirs cannot be written); a search scans them in the index."""

    sent: int
    removed: int
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    """Which rows of a corpus the store holds as they are now; None: all of them."""

    generation: int
    state: str
    rows: Mask | None


class Projection:
    """The store at ``url`` for one space of an index. Opens it when it is first needed.
    Thread-safe; `sync` is for whoever holds the writer's lock."""

    def __init__(self, database: Database, url: str, space: Space) -> None:
        self.url = url
        self.space = space
        self._database = database
        self._ledger = Ledger(url, space)
        self._lock = threading.Lock()
        self._store: VectorStore | None = None
        self._known: _Known | None = None

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
            self._ledger.make(connection)
        held = self.opened().count()
        with self._database.reading() as connection:
            known = self._ledger.held(connection)
        if held and not known:
            raise InputError(
                f"{self.opened().name} holds {held} vectors of something else",
                hint="give another name, or another folder",
                param="store",
            )

    def is_behind(self) -> bool:
        """Whether `sync` would have something to do, as far as the index knows."""
        with self._database.reading() as connection:
            return self._ledger.held(connection) != self._ledger.wanted(connection)

    def compare(self) -> StoreReport:
        return compare_store(self._database, self._ledger, self.opened())

    def forget(self, *, empty: bool) -> None:
        """Stop keeping this store, and ``empty`` it."""
        if empty:
            with suppress(LmstackError):  # one that cannot be reached is left as it is
                self.opened().clear()
        with self._database.writing() as connection:
            self._ledger.drop_all(connection)

    # Keeping in step.

    def sync(self, progress: Progress | None = None) -> Synced:
        """Bring the store in step. ``progress`` is told how many rows of how many are done."""
        store = self.opened()
        self._leave_other_spaces()
        with self._database.reading() as connection:
            wanted, known = self._ledger.wanted(connection), self._ledger.held(connection)
        known = self._counted(store, known)
        removed = self._take_out(store, [d for d in known.values() if not _same(d, wanted)])
        known = {i: d for i, d in known.items() if _same(d, wanted)}
        stale = [d for i, d in wanted.items() if i not in known or known[i].revision != d.revision]
        sent, total = 0, sum(d.rows for d in stale)
        refused: list[str] = []
        for batch in _batches(stale):
            with self._database.reading() as connection:
                loaded = list(self._ledger.load(connection, batch))
            loaded, out = self._keepable(loaded)
            refused += out
            self._send(store, loaded)
            sent += sum(d.rows.rows for d in loaded)
            if progress is not None:
                progress(sent, total)
        return Synced(sent, removed, tuple(refused))

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
                self._ledger.drop(connection, [d.id for d in batch])
        return sum(d.rows for d in gone)

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
            self._ledger.note(connection, rows)

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
        with self._database.reading() as connection:
            others = self._ledger.other_spaces(connection)
        for space_id, dimensions in others:
            with suppress(LmstackError):  # what is left there, nobody finds
                address = parse_address(self.url).of_space(space_id)
                old = open_store(address, dimensions, create=False)
                old.clear()
                old.close()
            with self._database.writing() as connection:
                self._ledger.drop_all(connection, space_id)

    # Searching.

    def nearest(
        self,
        connection: sa.Connection,
        corpus: Corpus,
        vector: Vectors,
        depth: int,
        *,
        where: Filter | None,
        held: frozenset[str] | None,
    ) -> Ranked | None:
        """The ``depth`` best rows in the snapshot of ``connection``, whose state ``corpus`` is;
        None where a filter is beyond the store and the caller has to scan."""
        store = self.opened()
        synced = self._synced(connection, corpus)
        wanted = all_of(where, _access(corpus, held))
        allowed = corpus.allowed(held, where)
        rows = _ask(store, corpus, vector, depth, wanted, _both(allowed, synced))
        if rows is None:
            return None
        if synced is not None:
            tail = _both(allowed, ~synced)
            rows = np.union1d(rows, corpus.dense.search(vector, depth, tail)[0])
        return best_rows(rows, corpus.dense.cosines(vector, rows), depth, corpus.places)

    def _synced(self, connection: sa.Connection, corpus: Corpus) -> Mask | None:
        state = self._ledger.state(connection)
        with self._lock:
            known = self._known
        if known is None or (known.generation, known.state) != (corpus.generation, state):
            held = self._ledger.held(connection)
            current = [
                i in held and i in corpus.facts and held[i].revision == corpus.facts[i].revision
                for i in map(int, corpus.document_ids)
            ]
            rows = None if all(current) else np.array(current, np.bool_)[corpus.owners]
            known = _Known(corpus.generation, state, rows)
            with self._lock:
                self._known = known
        return known.rows


def _ask(
    store: VectorStore,
    corpus: Corpus,
    vector: Vectors,
    depth: int,
    where: Filter | None,
    there: Mask | None,
) -> Rows | None:
    """Candidates, more until ``depth`` of them count. None if the filter leaves fewer than it
    should, `StoreError` if the store itself does."""
    in_play = len(corpus.chunk_ids) if there is None else int(np.count_nonzero(there))
    enough = min(depth, in_play)
    if not enough:
        return np.zeros(0, np.int64)
    n = depth + _SLACK
    while True:
        found = store.search(vector, n, where)
        rows = _rows(corpus, found, there)
        if len(rows) >= enough:
            return rows
        if len(found) < n or n >= _MOST:
            if where is not None:
                return None
            raise StoreError(f"{store.name} returned {len(rows)} of {enough} passages")
        n = min(4 * n, _MOST)


def _rows(corpus: Corpus, found: list[StoreHit], there: Mask | None) -> Rows:
    """The rows of candidates that the corpus has, and that are ``there``."""
    ids = np.array([one.id for one in found], np.int64)
    rows = np.searchsorted(corpus.chunk_ids, ids)
    rows = np.minimum(rows, len(corpus.chunk_ids) - 1)
    kept = corpus.chunk_ids[rows] == ids
    if there is not None:
        kept &= there[rows]
    return np.unique(rows[kept])


def _access(corpus: Corpus, held: frozenset[str] | None) -> Filter | None:
    """The sets of labels that the caller may see, as a filter for the store."""
    if held is None:
        return None
    sets = {facts.labels for facts in corpus.facts.values()}
    seen = sorted(access_of(labels) for labels in sets if may_see(held, labels))
    return Condition(ACCESS, "in", tuple(seen)) if len(seen) <= _ACCESS_SETS else None


def _both(one: Mask | None, other: Mask | None) -> Mask | None:
    return other if one is None else one if other is None else one & other


def _same(known: Projected, wanted: dict[int, Projected]) -> bool:
    """Whether the index still has the rows that the store was sent, of whatever revision."""
    now = wanted.get(known.id)
    return now is not None and now.ids == known.ids


def _batches(rows: Sequence[Projected]) -> Iterator[list[Projected]]:
    batch: list[Projected] = []
    count = 0
    for one in rows:
        batch.append(one)
        count += one.rows
        if count >= _ROWS or len(batch) >= DOCUMENTS:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch
