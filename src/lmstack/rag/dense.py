"""Search by meaning: an exact scan over all vectors, held in memory per state of the index.

A change of a few documents reads only those again. Thread-safe. Cosine similarity, because
embedders give unit vectors.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.rag.schema import ACTIVE, documents, vectors
from lmstack.rag.store import Vectors

__all__ = ["Matrix", "MatrixCache"]


@dataclass(frozen=True)
class Matrix:
    """Row i of ``vectors`` (N, D) belongs to the chunk ``chunk_ids[i]``; ids ascend."""

    generation: int
    chunk_ids: npt.NDArray[np.int64]
    document_ids: npt.NDArray[np.int64]
    vectors: Vectors

    def within(self, documents: frozenset[int]) -> Matrix:
        """The rows of these documents only."""
        rows = np.isin(self.document_ids, np.fromiter(documents, np.int64))
        chunk_ids, document_ids = self.chunk_ids[rows], self.document_ids[rows]
        return Matrix(self.generation, chunk_ids, document_ids, self.vectors[rows])

    def similarities(self, query: Vectors) -> npt.NDArray[np.float32]:
        return self.vectors @ query

    def top(self, scores: npt.NDArray[np.float32], depth: int) -> list[tuple[int, float]]:
        """(chunk id, similarity), best first; equal scores in the order of ids."""
        if len(scores) > depth:
            cut = np.partition(scores, len(scores) - depth)[len(scores) - depth]
            rows = np.flatnonzero(scores >= cut)
        else:
            rows = np.arange(len(scores))
        order = rows[np.argsort(-scores[rows], kind="stable")][:depth]
        return [(int(self.chunk_ids[row]), float(scores[row])) for row in order]

    def row_of(self, chunk_id: int) -> int:
        return int(np.searchsorted(self.chunk_ids, chunk_id))


class MatrixCache:
    """The matrix of the newest state seen, and the pieces it was made of."""

    def __init__(self, dimensions: int) -> None:
        self._dimensions = dimensions
        self._lock = threading.Lock()
        self._pieces: dict[int, tuple[int, int, Vectors]] = {}
        self._matrix: Matrix | None = None

    def get(self, connection: sa.Connection, generation: int) -> Matrix:
        """The matrix as of the snapshot of ``connection``, whose generation is given."""
        with self._lock:
            if self._matrix is None or self._matrix.generation != generation:
                self._matrix = self._load(connection, generation)
            return self._matrix

    def _load(self, connection: sa.Connection, generation: int) -> Matrix:
        rows = connection.execute(sa.select(documents.c.id, documents.c.revision)).all()
        stale = {
            row.id
            for row in rows
            if row.id not in self._pieces or self._pieces[row.id][0] != row.revision
        }
        revisions = {row.id: row.revision for row in rows}
        query = sa.select(vectors).where(vectors.c.space_id == ACTIVE)
        if len(stale) < len(rows):
            fresh = [connection.execute(query.where(vectors.c.document_id == i)) for i in stale]
            loaded = [row for result in fresh for row in result]
        else:
            loaded = list(connection.execute(query))
        pieces = {i: piece for i, piece in self._pieces.items() if i in revisions}
        for row in loaded:
            data = np.frombuffer(row.data, "<f4").reshape(row.rows, row.dimensions)
            pieces[row.document_id] = (revisions[row.document_id], row.first_chunk, data)
        named = sorted(pieces.items(), key=lambda item: item[1][1])
        ordered = [piece for _, piece in named]
        matrix = np.concatenate([p[2] for p in ordered]) if ordered else self._none()
        ids = [np.arange(first, first + len(data)) for _, first, data in ordered]
        chunk_ids = np.concatenate(ids) if ids else np.zeros(0, np.int64)
        owners = [number for number, (_, _, data) in named for _ in range(len(data))]
        # The pieces now view the one matrix, so that nothing is held twice.
        offset = 0
        for document_id, (revision, first, data) in sorted(
            pieces.items(), key=lambda item: item[1][1]
        ):
            view = matrix[offset : offset + len(data)]
            pieces[document_id] = (revision, first, view)
            offset += len(data)
        self._pieces = pieces
        document_ids = np.array(owners, np.int64)
        return Matrix(generation, chunk_ids.astype(np.int64), document_ids, matrix)

    def _none(self) -> Vectors:
        return np.zeros((0, self._dimensions), np.float32)
