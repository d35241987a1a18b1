"""Rows of a store: what is checked before an engine sees them, and how fields are written as text.

One set of limits for all engines, so that a row which one store takes is taken by every other
and moving between stores cannot fail half way.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, shown
from lmstack.rag.filters import Fields, Value

__all__ = [
    "MAX_INTEGER",
    "Ids",
    "StoreHit",
    "StoredRow",
    "Vectors",
    "batches",
    "checked_ids",
    "checked_query",
    "checked_rows",
    "dump",
    "load",
    "storable",
]

Ids = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

# Engines keep numbers as float64; a whole number beyond this may not be one.
MAX_INTEGER = 2**53
_UNIT_TOLERANCE = 1e-3
_BAD_TEXT = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class StoreHit:
    """One result of a search: the chunk, and its cosine with the query."""

    id: int
    score: float


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One row as the store holds it."""

    id: int
    vector: Vectors
    fields: Fields


def checked_rows(
    ids: Ids, vectors: Vectors, fields: Sequence[Fields], dimensions: int
) -> tuple[Ids, Vectors, Sequence[Fields]]:
    """The arguments of `upsert` as arrays of the right kind, or `InputError`: ids that are
    negative or given twice, vectors of other dimensions, not finite or not of length one, fields
    that some engine could not give back."""
    ids = checked_ids(ids)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    if vectors.ndim != 2 or not len(ids) == len(vectors) == len(fields):
        raise _bad(
            f"{len(ids)} ids, vectors of shape {vectors.shape} and {len(fields)} fields do not "
            "go together",
            "give one vector and one mapping an id",
            "vectors",
        )
    if len(np.unique(ids)) != len(ids):
        raise _bad("an id is given twice", "give each row once", "ids")
    if len(vectors):
        _check_vectors(vectors, dimensions)
    for one in fields:
        for name, value in one.items():
            _check_value(name, value)
    return ids, vectors, fields


def checked_ids(ids: Ids) -> Ids:
    found = np.asarray(ids, dtype=np.int64).reshape(-1)
    if len(found) and found.min() < 0:
        raise _bad(f"the id {found.min()} is negative", "ids count from 0", "ids")
    return found


def checked_query(vector: Vectors, k: int, dimensions: int) -> Vectors:
    if k < 1:
        raise _bad(f"k is {k}", "ask for one result or more", "k")
    vector = np.ascontiguousarray(vector, dtype=np.float32).reshape(-1)
    _check_vectors(vector[None], dimensions)
    return vector


def _check_vectors(vectors: Vectors, dimensions: int) -> None:
    if vectors.shape[1] != dimensions:
        raise _bad(
            f"vectors of {vectors.shape[1]} dimensions in a store of {dimensions}",
            "use the embedder that the store was filled with, or another store",
            "vectors",
        )
    lengths = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    off = np.flatnonzero(~(np.abs(lengths - 1) < _UNIT_TOLERANCE))
    if len(off):
        raise _bad(
            f"vector {off[0]} has the length {lengths[off[0]]:.3g}, not 1",
            "divide each vector by its length",
            "vectors",
        )


def _check_value(name: str, value: Value) -> None:
    if isinstance(value, bool):
        return
    if isinstance(value, int | float):
        if not math.isfinite(value) or (isinstance(value, int) and abs(value) > MAX_INTEGER):
            raise _bad(
                f"field {shown(name)} is {shown(value)}",
                "stores keep finite numbers, whole ones up to 2**53; write it as text",
                "fields",
            )
        return
    texts = value if isinstance(value, tuple) else (value,)
    for text in texts:
        if not isinstance(text, str) or not storable(text):
            raise _bad(
                f"field {shown(name)} is {shown(value)}",
                "fields are texts without NUL, numbers, true or false, or tuples of texts",
                "fields",
            )


def storable(text: str) -> bool:
    """Whether a field may hold ``text``: no NUL, and nothing that UTF-8 cannot write."""
    return _BAD_TEXT.search(text) is None


def dump(fields: Fields) -> str:
    """Fields as one JSON text; equal fields give equal texts."""
    return json.dumps(fields, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def load(text: str | dict[str, Any]) -> Fields:
    """What `dump` wrote, or the object that an engine parsed it to."""
    data = json.loads(text) if isinstance(text, str) else text
    return {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}


def batches(count: int, size: int) -> Iterable[slice]:
    return (slice(start, start + size) for start in range(0, count, size))


def _bad(message: str, hint: str, param: str) -> InputError:
    return InputError(message, hint=hint, param=param)
