"""The nearest passages by way of a store: what it finds, and a scan of what it does not have.

A store is never believed: its candidates are kept only if the state of the index that is searched
has them, is allowed to show them and knows the store to hold them as they are now; each cosine is
computed again. Where it cannot be reached, holds less than it should or cannot take a filter, the
whole index is scanned, and `problem` says so.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import LmstackError, UnsupportedError
from lmstack.rag.catalogue.labels import may_see
from lmstack.rag.catalogue.memory import get_meta
from lmstack.rag.filters import Condition, Filter, all_of
from lmstack.rag.retrieve.corpus import Corpus
from lmstack.rag.retrieve.ranking import Mask, Ranked, Rows, best_rows
from lmstack.rag.stores import Found, VectorStore
from lmstack.rag.stores.syncing import ACCESS, Projection, access_of, documents_of

__all__ = ["StoreSearch"]

# A store that failed is left alone for so long.
_PAUSE_S = 30.0
_SLACK = 16
_MOST = 10_000
_ACCESS_SETS = 500


@dataclass(frozen=True, slots=True)
class _Known:
    """Which rows of a corpus the store holds as they are now; None: all of them."""

    generation: int
    state: str
    rows: Mask | None


class StoreSearch:
    """Search through one `Projection`. Thread-safe."""

    def __init__(self, projection: Projection) -> None:
        self.projection = projection
        self.problem: str | None = None
        self._lock = threading.Lock()
        self._known: _Known | None = None
        self._again_at = 0.0

    def nearest(
        self,
        connection: sa.Connection,
        corpus: Corpus,
        vector: npt.NDArray[np.float32],
        depth: int,
        *,
        where: Filter | None,
        held: frozenset[str] | None,
    ) -> Ranked | None:
        """The ``depth`` best rows in the snapshot of ``connection``, whose state ``corpus`` is;
        None where the store is of no help and the caller has to scan."""
        if time.monotonic() < self._again_at:
            return None
        try:
            store = self.projection.opened()
            synced = self._synced(connection, corpus)
            wanted = all_of(where, _access(corpus, held))
            allowed = corpus.allowed(held, where)
            there = _both(allowed, synced)
            rows = self._ask(store, corpus, vector, depth, wanted, there)
        except UnsupportedError:  # a filter that the engine cannot take
            return None
        except LmstackError as error:
            self.fail(error.message)
            return None
        if rows is None:
            return None
        self.problem = None
        if synced is not None:
            tail = _both(allowed, ~synced)
            rows = np.union1d(rows, corpus.dense.search(vector, depth, tail)[0])
        return best_rows(rows, corpus.dense.cosines(vector, rows), depth, corpus.places)

    def fail(self, message: str) -> None:
        """Leave the store alone for a while; searches scan."""
        self.problem = message
        self._again_at = time.monotonic() + _PAUSE_S

    def recovered(self) -> None:
        self.problem, self._again_at = None, 0.0

    def _ask(
        self,
        store: VectorStore,
        corpus: Corpus,
        vector: npt.NDArray[np.float32],
        depth: int,
        where: Filter | None,
        there: Mask | None,
    ) -> Rows | None:
        """Candidates, more until ``depth`` of them count. None if there are fewer than there
        should be."""
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
                if where is None:
                    self.fail(f"{store.name} returned {len(rows)} of {enough} passages")
                return None
            n = min(4 * n, _MOST)

    def _synced(self, connection: sa.Connection, corpus: Corpus) -> Mask | None:
        state = get_meta(connection).get("store_state", "0")
        with self._lock:
            known = self._known
        if known is None or (known.generation, known.state) != (corpus.generation, state):
            projection = self.projection
            held = documents_of(connection, projection.url, projection.space.id)
            current = [
                i in held and i in corpus.facts and held[i].revision == corpus.facts[i].revision
                for i in map(int, corpus.document_ids)
            ]
            rows = None if all(current) else np.array(current, np.bool_)[corpus.owners]
            known = _Known(corpus.generation, state, rows)
            with self._lock:
                self._known = known
        return known.rows


def _rows(corpus: Corpus, found: list[Found], there: Mask | None) -> Rows:
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
