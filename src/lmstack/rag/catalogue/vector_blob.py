"""Vectors of a document as bytes: in full, in a byte a dimension, or in a bit.

All are unit vectors, so only directions are kept: ``int8`` rounds each vector to whole numbers up
to 127 (a quarter of the space), ``binary`` keeps the signs (a thirty-second). Which it is shows in
the length. Reading gives unit vectors again, and writing those again gives the same bytes. Queries
stay in full, so that scores are of what was stored and not of two roundings.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import InputError, IntegrityError, nearest, shown
from lmstack.rag.catalogue.database import index_option
from lmstack.rag.catalogue.memory import get_meta

__all__ = [
    "FORM_KEY",
    "VectorForm",
    "check_form",
    "check_kept_form",
    "pack_vectors",
    "packed_size",
    "read_form",
    "unpack_vectors",
]

VectorForm = Literal["float32", "int8", "binary"]
Vectors = npt.NDArray[np.float32]
FORM_KEY = "vector_form"


def check_form(form: str) -> None:
    if form not in get_args(VectorForm):
        guess = nearest(str(form), get_args(VectorForm))
        raise InputError(
            f"vectors is {shown(form)}",
            hint=f"did you mean {guess!r}?" if guess else "float32, int8 or binary",
            param="vectors",
        )


def read_form(connection: sa.Connection) -> VectorForm:
    """How the index keeps its vectors."""
    kept = get_meta(connection).get(FORM_KEY, "float32")
    check_form(kept)
    return kept  # type: ignore[return-value]


def check_kept_form(connection: sa.Connection, form: VectorForm | None, place: str) -> None:
    """``form`` is that of the index at ``place``, or None."""
    kept = read_form(connection)
    if form not in (None, kept):
        command = f"lmstack index add --rebuild --vectors {form} {index_option(place)} PATH"
        raise InputError(
            f"the index {shown(place)} keeps its vectors as {kept}, not {form}",
            hint=f"index again: {command}",
            param="vectors",
        )


def pack_vectors(vectors: Vectors, form: VectorForm) -> bytes:
    """(N, D) to bytes."""
    if form == "float32":
        return np.ascontiguousarray(vectors, "<f4").tobytes()
    if form == "binary":
        return np.packbits(vectors > 0, axis=1).tobytes()
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0)
    scaled = vectors / np.where(largest > 0, largest, 1)
    rounded: npt.NDArray[np.int8] = np.rint(127 * scaled.astype(np.float64)).astype(np.int8)
    return rounded.tobytes()


def packed_size(form: VectorForm, rows: int, dimensions: int) -> int:
    """How many bytes `pack_vectors` makes."""
    width = {"float32": 4 * dimensions, "int8": dimensions, "binary": -(-dimensions // 8)}
    return rows * width[form]


def unpack_vectors(data: bytes, rows: int, dimensions: int) -> Vectors:
    """(N, D); `IntegrityError` for bytes of no form of that size."""
    if len(data) == 4 * rows * dimensions:
        return np.frombuffer(data, "<f4").reshape(rows, dimensions)
    width = -(-dimensions // 8)
    if len(data) == rows * dimensions:
        whole = np.frombuffer(data, np.int8).reshape(rows, dimensions).astype(np.float32)
    elif len(data) == rows * width:
        bits = np.frombuffer(data, np.uint8).reshape(rows, width)
        whole = np.unpackbits(bits, axis=1, count=dimensions).astype(np.float32) * 2 - 1
    else:
        raise IntegrityError(
            f"vectors take {len(data)} bytes, which {rows} of {dimensions} dimensions do not",
            hint="index your documents again with --rebuild; the damaged file is kept beside",
            param="index",
        )
    lengths = np.linalg.norm(whole, axis=1, keepdims=True)
    unit: Vectors = whole / np.where(lengths > 0, lengths, 1)
    return unit
