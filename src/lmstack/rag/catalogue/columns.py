"""How columns hold what is no number or text: fields and structure as JSON, vectors as bytes.

Filters may ask for what a document brought and what the index knows of it. The index knows
``path``, ``source``, ``format`` and ``size`` better than any document; ``title``, ``language`` and
``modified`` are its own if it says so. Paths are absolute here; `with_absolute_paths` lets people
give them as they open from the current folder.

Vectors are unit vectors, so only directions are kept: in full, as ``int8`` (whole numbers up to
127, a quarter of the space) or ``binary`` (the signs, a thirty-second). Which it is shows in the
length. Reading gives unit vectors again, and writing those again gives the same bytes. Queries
stay in full.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import astuple, replace
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import InputError, IntegrityError, nearest, shown
from lmstack.rag.catalogue.database import index_option
from lmstack.rag.catalogue.snapshot import get_meta
from lmstack.rag.documents import Block, Page, Section
from lmstack.rag.filters import PATHS, And, Condition, Fields, Filter, Not, Or, Value

__all__ = [
    "FORM_KEY",
    "VectorForm",
    "all_fields",
    "check_form",
    "check_kept_form",
    "dump_blocks",
    "dump_fields",
    "dump_pages",
    "dump_sections",
    "iso_time",
    "load_blocks",
    "load_fields",
    "load_pages",
    "load_sections",
    "pack_vectors",
    "packed_size",
    "read_form",
    "unpack_vectors",
    "with_absolute_paths",
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


def dump_sections(sections: Iterable[Section]) -> str:
    return json.dumps(
        [[s.title, s.level, s.start, s.end, s.path] for s in sections], ensure_ascii=False
    )


def load_sections(data: str) -> tuple[Section, ...]:
    return tuple(
        Section(title, level, start, end, tuple(above))
        for title, level, start, end, above in json.loads(data)
    )


def dump_blocks(blocks: Iterable[Block]) -> str:
    return json.dumps([astuple(block) for block in blocks], separators=(",", ":"))


def load_blocks(data: str | None) -> tuple[Block, ...]:
    """None where an older format did not keep them."""
    return tuple(
        Block(kind, start, end, (header[0], header[1]) if header else None)
        for kind, start, end, header in json.loads(data or "[]")
    )


def dump_pages(pages: tuple[Page, ...]) -> str:
    return json.dumps([[p.number, p.start, p.end] for p in pages], separators=(",", ":"))


def load_pages(data: str) -> tuple[Page, ...]:
    return tuple(Page(*page) for page in json.loads(data))


def all_fields(row: Any, own: Fields, root: str, path: str) -> dict[str, Value]:
    """The fields of the document in the ``row`` of `schema.documents`, whose source is ``root``
    and whose absolute path is ``path``."""
    known: dict[str, Value] = {"title": row.title, "modified": iso_time(row.mtime_ns)}
    if row.language:
        known["language"] = row.language
    return {**known, **own, "path": path, "source": root, "format": row.format, "size": row.size}


def iso_time(nanoseconds: int) -> str:
    """``2026-11-26T09:30:00Z``, so that a text comparison is one of dates."""
    try:
        return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):  # a file system may hold any number
        return ""


def dump_fields(fields: Fields) -> str:
    return json.dumps(dict(sorted(fields.items())), ensure_ascii=True, separators=(",", ":"))


def load_fields(data: str) -> dict[str, Value]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(data).items()}


def with_absolute_paths(where: Filter | None) -> Filter | None:
    """``where`` with the paths in it as they open from the current folder."""
    match where:
        case Condition(name, "=" | "!=" | "under", str(path)) if name in PATHS:
            return replace(where, value=os.path.abspath(path))
        case Condition(name, "in", tuple(paths)) if name in PATHS:
            return replace(where, value=tuple(map(os.path.abspath, paths)))
        case And(parts) | Or(parts):
            return replace(where, parts=tuple(filter(None, map(with_absolute_paths, parts))))
        case Not(part):
            return Not(with_absolute_paths(part) or part)
    return where
