"""All passages of an index with their vectors, in the order of their documents' paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.rag.catalogue.memory import Key, absolute_path, display_path, source_roots
from lmstack.rag.catalogue.schema import ACTIVE, chunks, documents, vectors
from lmstack.rag.catalogue.vector_blob import unpack_vectors

__all__ = ["StoredPassage", "read_passages"]


@dataclass(frozen=True, slots=True)
class StoredPassage:
    """``path`` opens from the current folder; ``text`` is ``document.text[start:end]``."""

    path: str
    start: int
    end: int
    text: str


def read_passages(
    connection: sa.Connection, dimensions: int
) -> tuple[list[StoredPassage], npt.NDArray[np.float32]]:
    """Passages, and their vectors as (N, D)."""
    roots = source_roots(connection)
    query = (
        sa.select(
            documents.c.id, documents.c.source_id, documents.c.path, vectors.c.data, vectors.c.rows
        )
        .join_from(documents, vectors, documents.c.id == vectors.c.document_id)
        .where(vectors.c.space_id == ACTIVE)
    )
    rows = connection.execute(query).all()
    passages: list[StoredPassage] = []
    parts = [np.zeros((0, dimensions), np.float32)]
    for row in sorted(rows, key=lambda r: absolute_path(roots, Key(r.source_id, r.path))):
        path = display_path(absolute_path(roots, Key(row.source_id, row.path)))
        cut = connection.execute(
            sa.select(chunks.c.start, chunks.c.end, chunks.c.text)
            .where((chunks.c.space_id == ACTIVE) & (chunks.c.document_id == row.id))
            .order_by(chunks.c.ordinal)
        )
        passages += [StoredPassage(path, c.start, c.end, c.text) for c in cut]
        parts.append(unpack_vectors(row.data, row.rows, dimensions))
    return passages, np.concatenate(parts)
