"""What a vector store must do, whoever made it.

A store is a projection of the catalogue: the catalogue (SQLite or PostgreSQL) holds documents,
chunks and vectors and is the truth; a store holds vectors and fields by chunk id for the sake of
search, and can be emptied and filled again at any time. Chunk ids are never used twice, so every
call may be repeated safely. Vectors are unit vectors; scores are cosines, up to the rounding of
float32: equal vectors may differ in the last bits of their scores.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from lmstack.rag.filters import Fields, Filter

__all__ = ["Found", "Ids", "Stored", "VectorStore", "Vectors"]

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Found:
    """One result of a search: the chunk, and its cosine with the query."""

    id: int
    score: float


@dataclass(frozen=True, slots=True)
class Stored:
    """One row as the store holds it."""

    id: int
    vector: Vectors
    fields: Fields


class VectorStore(Protocol):
    """Thread-safe. What returned is durable: it survives ``kill -9`` of the caller.

    ``exact``: whether search finds the true nearest now (approximate stores miss some).
    Errors: `InputError` for what `rows.checked_rows` refuses (dimensions, vectors that are not
    of length one, fields that some engine could not keep, ids given twice), `StoreError` when the
    engine fails or cannot be reached, `UnsupportedError` for a filter that it cannot express.
    """

    @property
    def name(self) -> str: ...

    @property
    def dimensions(self) -> int: ...

    @property
    def exact(self) -> bool: ...

    def upsert(self, ids: Ids, vectors: Vectors, fields: Sequence[Fields]) -> None:
        """Insert rows, or replace those whose ids are there. ``vectors`` is (N, D)."""
        ...

    def delete(self, ids: Ids) -> None:
        """Take rows out; ids that are not there are passed over."""
        ...

    def search(self, vector: Vectors, k: int, where: Filter | None = None) -> list[Found]:
        """The ``k`` nearest rows that match, best first, equal scores by ascending id; fewer
        only where fewer match (approximate stores: where fewer were found)."""
        ...

    def fetch(self, ids: Ids) -> list[Stored]:
        """Rows by id, in the order asked; those not there are left out."""
        ...

    def ids(self) -> Iterator[int]:
        """All ids, in any order."""
        ...

    def count(self) -> int: ...

    def clear(self) -> None:
        """Take everything out."""
        ...

    def close(self) -> None: ...
