"""FAISS: a graph (HNSW) over the passages of an index, as a cache of the catalogue.

The catalogue has the vectors, and an open index has them in memory; the graph is walked by codes
of one byte a dimension, and what it finds is compared exactly. Nothing else is kept: no vectors,
no fields, no labels. A file holds the graph for the next process, named by the index and the
space, so that no other index's is ever read. A file that is missing, damaged or behind costs
time only: passages that the graph lacks are added when it is searched next, those that are gone
are passed over, and a graph that is half gone is built anew. Where few passages are in play they
are scanned, exactly.
"""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import StoreError, require, shown
from lmstack.core.files import replaced_file
from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.schema import documents, get_meta, set_meta
from lmstack.rag.catalogue.spaces import Space, current_state
from lmstack.rag.catalogue.verify import measure_recall
from lmstack.rag.filters import Filter
from lmstack.rag.retrieve.corpus import Corpus, CorpusCache
from lmstack.rag.retrieve.dense import Mask, Ranked, Rows, best_rows
from lmstack.rag.stores.address import parse_address
from lmstack.rag.stores.ledger import StoreReport
from lmstack.rag.stores.projection import Progress, Synced
from lmstack.rag.stores.rows import Ids, Vectors, batches

__all__ = ["Graph"]

EXACT_UP_TO = 10_000
_NEIGHBOURS = 32
_BUILD_WIDTH = 128
_SEARCH_WIDTH = 256
_SLACK = 16
_STEP = 2000
_SAMPLE = 20_000
_TAG = "graph"


class Graph:
    """The graph at ``url`` for one space of an index. Thread-safe. Errors: `ExtraMissingError`
    without FAISS, `StoreError` for a folder that cannot be made."""

    def __init__(self, database: Database, url: str, space: Space, corpora: CorpusCache) -> None:
        self.url = url
        self._database, self._space, self._corpora = database, space, corpora
        self._folder = Path(parse_address(url).place)
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._drop()

    def _drop(self) -> None:
        self._graph: Any = None
        self._ids = np.zeros(0, np.int64)
        self._saved = 0
        self._generation: int | None = None

    def adopt(self) -> None:
        """Begin to keep a graph."""
        require("faiss", "faiss")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the folder {shown(str(self._folder))}: {error.strerror}",
                hint="give another place for the store",
                param="store",
            ) from None
        with self._database.writing() as connection:
            if _TAG not in get_meta(connection):
                set_meta(connection, **{_TAG: os.urandom(8).hex()})

    def is_behind(self) -> bool:
        """Never so that it matters: a search adds what is missing."""
        return False

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
        None where the caller has to scan."""
        allowed = corpus.allowed(held, where)
        if _size(corpus, allowed) <= EXACT_UP_TO:
            return None
        with self._lock:
            self._follow(connection, corpus)
            rows = self._walk(vector, depth + _SLACK, allowed)
        if len(rows) < depth:
            return None
        return best_rows(rows, corpus.dense.cosines(vector, rows), depth, corpus.places)

    def sync(self, progress: Progress | None = None) -> Synced:
        """Build what is missing and write the file, so that searches need not."""
        added = 0
        self.adopt()  # the folder may be gone, and an earlier version gave no name
        with self._lock, self._database.reading() as connection:
            self._leave_other_spaces(self._path(connection))
            size = int(connection.scalar(sa.select(sa.func.sum(documents.c.chunk_count))) or 0)
            if size > EXACT_UP_TO:
                added = self._follow(connection, self._corpus(connection), progress)
                self._save()
        if progress is not None:
            progress(size, size)
        return Synced(added, 0)

    def compare(self) -> StoreReport:
        """Its recall; there is nothing in it that could differ from the index."""
        with self._database.reading() as connection:
            corpus = self._corpus(connection)
            seen = corpus.visible(None)
            rows = _rows(corpus, seen)

            def find(vector: Vectors, k: int) -> list[int]:
                ranked = self.nearest(connection, corpus, vector, k, where=None, held=None)
                found, _ = ranked or corpus.dense.search(vector, k, seen, "never")
                return list(map(int, corpus.chunk_ids[found]))

            recall = measure_recall(find, corpus.chunk_ids[rows], corpus.dense.rows(rows))
        return StoreReport(self.url, len(rows), 0, recall, ())

    def forget(self, *, empty: bool) -> None:
        with self._lock, self._database.reading() as connection:
            self._drop()
            path = self._path(connection)
        if empty and path is not None:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            if len(self._ids) != self._saved:
                self._save()
            self._drop()

    def _corpus(self, connection: sa.Connection) -> Corpus:
        state = current_state(connection)
        return self._corpora.get(connection, state[1] if state else 0)

    def _follow(
        self, connection: sa.Connection, corpus: Corpus, progress: Progress | None = None
    ) -> int:
        """Make it the graph of ``corpus``; how many rows were added."""
        if self._generation == corpus.generation:
            return 0
        rows = _rows(corpus, corpus.visible(None))
        ids = corpus.chunk_ids[rows]
        if self._graph is None or self._graph.ntotal != len(self._ids):
            self._load(connection)
        if self._graph is None or 2 * np.isin(self._ids, ids).sum() < len(self._ids):
            self._begin(corpus.dense.rows(rows[:: 1 + len(rows) // _SAMPLE]))
        fresh = rows[~np.isin(ids, self._ids)]
        for part in batches(len(fresh), _STEP):
            self._graph.add(corpus.dense.rows(fresh[part]))
            self._ids = np.concatenate([self._ids, corpus.chunk_ids[fresh[part]]])
            if progress is not None:
                progress(min(part.stop, len(fresh)), len(fresh))
        # Where each place of the graph is in the corpus, if it is.
        self._rows = np.minimum(np.searchsorted(ids, self._ids), len(ids) - 1)
        self._there = ids[self._rows] == self._ids
        self._rows = rows[self._rows]
        self._generation = corpus.generation
        return len(fresh)

    def _begin(self, sample: Vectors) -> None:
        faiss = require("faiss", "faiss")
        self._drop()
        self._graph = faiss.IndexHNSWSQ(
            self._space.dimensions,
            faiss.ScalarQuantizer.QT_8bit,
            _NEIGHBOURS,
            faiss.METRIC_INNER_PRODUCT,
        )
        self._graph.hnsw.efConstruction = _BUILD_WIDTH
        self._graph.train(sample)

    def _walk(self, vector: Vectors, n: int, allowed: Mask | None) -> Rows:
        """About ``n`` of the nearest rows that are ``allowed``."""
        faiss = require("faiss", "faiss")
        mask = self._there if allowed is None else self._there & allowed[self._rows]
        bits = np.packbits(mask, bitorder="little")
        selector = None if mask.all() else faiss.IDSelectorBitmap(bits)
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(_SEARCH_WIDTH, 2 * n))
        places: Ids = self._graph.search(vector[None], n, params=parameters)[1][0]
        found: Rows = np.unique(self._rows[places[places >= 0]])
        return found

    def _path(self, connection: sa.Connection) -> Path | None:
        tag = get_meta(connection).get(_TAG)
        return self._folder / f"{tag}-{self._space.id}.npz" if tag else None

    def _save(self) -> None:
        """Losing this file costs time only, so a disk that is full is no error."""
        path = self._file
        if path is None:
            return
        graph: npt.NDArray[np.uint8] = require("faiss", "faiss").serialize_index(self._graph)
        with contextlib.suppress(StoreError):
            with replaced_file(path, synced=False) as partial, partial.open("wb") as sink:
                np.savez(sink, ids=self._ids, graph=graph)
            self._saved = len(self._ids)

    def _load(self, connection: sa.Connection) -> None:
        faiss = require("faiss", "faiss")
        self._drop()
        self._file = self._path(connection)
        try:
            # Checksums in the file keep damage away from FAISS, which would trust it.
            with (
                open(self._file or "", "rb") as source,
                np.load(source, allow_pickle=False) as saved,
            ):
                graph = faiss.deserialize_index(saved["graph"])
                ids = saved["ids"]
        except Exception:  # no file, or not a whole one: it is built again
            return
        if graph.d == self._space.dimensions and graph.ntotal == len(ids):
            self._graph, self._ids, self._saved = graph, ids, len(ids)

    def _leave_other_spaces(self, ours: Path | None) -> None:
        """Take away the files for embedders that the index no longer has."""
        tag = ours.stem.partition("-")[0] if ours else ""
        for path in self._folder.glob(f"{tag}-*"):
            if path != ours:
                path.unlink(missing_ok=True)


def _rows(corpus: Corpus, mask: Mask | None) -> Rows:
    return np.arange(len(corpus.chunk_ids)) if mask is None else np.flatnonzero(mask)


def _size(corpus: Corpus, mask: Mask | None) -> int:
    return len(corpus.chunk_ids) if mask is None else int(np.count_nonzero(mask))
