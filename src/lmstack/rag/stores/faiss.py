"""FAISS: a graph (HNSW) over the rows of a SQLite file, exact while there are few.

The file holds the rows and is the truth; the graph is a cache of it, written beside it when the
store is closed and caught up from the file's log when it is opened, so neither a kill nor a lost
cache loses a row. Filters pick the places the graph may return; where they leave few, those are
scanned exactly.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import require
from lmstack.rag.filters import Filter
from lmstack.rag.stores.embedded import EmbeddedStore
from lmstack.rag.stores.mirror import Mirror, best
from lmstack.rag.stores.protocol import Found, Vectors

__all__ = ["FaissStore"]

EXACT_UP_TO = 10_000
_NEIGHBOURS = 32
_BUILD_WIDTH = 128
_SEARCH_WIDTH = 256
_ROWS_FILE = "rows.sqlite"
_GRAPH_FILE = "graph.npz"


class FaissStore(EmbeddedStore):
    """Approximate above ``exact_up_to`` rows. Any number of threads and processes."""

    def __init__(
        self,
        folder: Path,
        dimensions: int,
        *,
        create: bool = True,
        exact_up_to: int = EXACT_UP_TO,
    ) -> None:
        self._faiss = require("faiss", "faiss")
        self._folder = folder
        self._exact_up_to = exact_up_to
        super().__init__(folder / _ROWS_FILE, dimensions, create=create)
        self._graph: Any = None
        self._epoch = 0
        self._saved = 0
        self._load()

    @property
    def name(self) -> str:
        return f"faiss:{self._folder}"

    @property
    def exact(self) -> bool:
        return self.count() <= self._exact_up_to

    def _nearest(self, vector: Vectors, k: int, where: Filter | None) -> list[Found]:
        mirror = self._mirror
        mask = mirror.matching(where)
        if int(mask.sum()) <= self._exact_up_to:
            return mirror.scan(vector, k, mask)
        self._extend()
        places = self._walk(vector, k, mask)
        # The graph's own scores would do, but for the last bits: these are those of a scan.
        return best(mirror.ids[places], mirror.vectors[places] @ vector, k)

    def _extend(self) -> None:
        """Put the places that are not in the graph yet into it."""
        mirror = self._mirror
        if self._graph is None or self._epoch != mirror.epoch:
            faiss = self._faiss
            self._graph = faiss.IndexHNSWFlat(
                self.dimensions, _NEIGHBOURS, faiss.METRIC_INNER_PRODUCT
            )
            self._graph.hnsw.efConstruction = _BUILD_WIDTH
            self._epoch = mirror.epoch
        if self._graph.ntotal < mirror.size:
            self._graph.add(mirror.vectors[self._graph.ntotal :])

    def _walk(self, vector: Vectors, k: int, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        faiss = self._faiss
        selector = (
            None if mask.all() else faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        )
        k = min(k, self._graph.ntotal)
        parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=max(_SEARCH_WIDTH, 2 * k))
        found: npt.NDArray[np.int64] = self._graph.search(vector[None], k, params=parameters)[1][0]
        return found[found >= 0]

    def close(self) -> None:
        with self._lock:
            if self._graph is not None and self._graph.ntotal != self._saved:
                self._save()
            self._graph = None
        super().close()

    def _save(self) -> None:
        """Losing this file costs time only, so a disk that is full is no error."""
        mirror, places = self._mirror, self._graph.ntotal
        temporary = self._folder / f"{_GRAPH_FILE}.{os.getpid()}"
        try:
            with open(temporary, "wb") as sink:
                np.savez(
                    sink,
                    tag=np.frombuffer(bytes.fromhex(self._table.tag), np.uint8),
                    revision=np.int64(mirror.revision),
                    ids=np.where(mirror.live[:places], mirror.ids[:places], -1),
                    graph=self._faiss.serialize_index(self._graph),
                )
            os.replace(temporary, self._folder / _GRAPH_FILE)
        except OSError:
            temporary.unlink(missing_ok=True)

    def _load(self) -> None:
        try:
            with np.load(self._folder / _GRAPH_FILE, allow_pickle=False) as saved:
                if saved["tag"].tobytes().hex() != self._table.tag:
                    return
                graph = self._faiss.deserialize_index(saved["graph"])
                ids, revision = saved["ids"], int(saved["revision"])
        except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile):
            return  # no cache, or not a whole one: it is built again
        if graph.d == self.dimensions and graph.ntotal == len(ids):
            mirror = Mirror(self.dimensions)
            if mirror.adopt(ids, revision, self._table):
                self._graph, self._mirror = graph, mirror
                self._saved = graph.ntotal
