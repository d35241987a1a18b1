"""The tables of an index, and how columns hold what is no number or text.

Documents and their texts are kept once; chunks, vectors and postings belong to a space, which is
one embedder's view of all documents (`spaces`). Fields and structure are JSON, vectors are bytes.

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
from lmstack.rag.documents import Block, Page, Section
from lmstack.rag.filters import PATHS, And, Condition, Fields, Filter, Not, Or, Value

__all__ = [
    "ACTIVE",
    "FORMAT_VERSION",
    "FORM_KEY",
    "METADATA",
    "VectorForm",
    "all_fields",
    "check_form",
    "check_kept_form",
    "chunks",
    "documents",
    "dump_blocks",
    "dump_fields",
    "dump_pages",
    "dump_sections",
    "exclusions",
    "get_meta",
    "iso_time",
    "label_rules",
    "load_blocks",
    "load_fields",
    "load_pages",
    "load_sections",
    "meta",
    "pack_vectors",
    "packed_size",
    "postings",
    "problems",
    "read_form",
    "set_meta",
    "sources",
    "spaces",
    "texts",
    "unpack_vectors",
    "vectors",
    "with_absolute_paths",
]

FORMAT_VERSION = 3

METADATA = sa.MetaData()
# SQLite finds rows by their number only in a column that is declared an INTEGER.
_LARGE = sa.BigInteger().with_variant(sa.Integer, "sqlite")
meta = sa.Table(
    "meta",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
sources = sa.Table(
    "sources",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("root", sa.Text, nullable=False, unique=True),
)
exclusions = sa.Table("exclusions", METADATA, sa.Column("path", sa.Text, primary_key=True))
documents = sa.Table(
    "documents",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("source_id", sa.ForeignKey("sources.id"), nullable=False),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("mtime_ns", sa.BigInteger, nullable=False),
    sa.Column("ctime_ns", sa.BigInteger, nullable=False),
    sa.Column("inode", sa.BigInteger, nullable=False),
    sa.Column("checked_ns", sa.BigInteger, nullable=False),
    sa.Column("format", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    # Of the active space.
    sa.Column("chunk_count", sa.Integer, nullable=False),
    # A new one whenever anything about the document changes: what was cached of it is stale.
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("language", sa.Text, nullable=False, server_default=""),
    # JSON: what the document says of itself, and all labels that it carries (`rules`).
    sa.Column("fields", sa.Text, nullable=False, server_default="{}"),
    sa.Column("labels", sa.Text, nullable=False, server_default="[]"),
    sa.UniqueConstraint("source_id", "path"),
    sqlite_autoincrement=True,
)
# Labels given by hand, for an absolute path and everything under it (JSON, ascending).
label_rules = sa.Table(
    "label_rules",
    METADATA,
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("labels", sa.Text, nullable=False),
)
# Apart from `documents`, so that listing documents does not read their texts. ``blocks`` is NULL
# where an older format did not keep them.
texts = sa.Table(
    "texts",
    METADATA,
    sa.Column("document_id", sa.ForeignKey("documents.id"), primary_key=True),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("sections", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("blocks", sa.Text),
    sa.Column("pages", sa.Text, nullable=False, server_default="[]"),
    # By which texts alike are found (`duplicates`); NULL where an older format did not keep it.
    sa.Column("sketch", sa.LargeBinary),
)
# One embedder and what it made of the documents. One space is active: it is searched and kept
# up to date; another may be building beside it. ``recipe`` names how its documents were cut when
# it was begun; ``generation`` is the state of the index in which it became what it is.
spaces = sa.Table(
    "spaces",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("embedder", sa.Text, nullable=False),
    sa.Column("embedder_digest", sa.Text, nullable=False),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("max_tokens", sa.Integer, nullable=False),
    sa.Column("recipe", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sqlite_autoincrement=True,
)
ACTIVE = sa.select(spaces.c.id).where(spaces.c.state == "active").scalar_subquery()
# Ids are never used twice (`meta` counts them), and those of a document follow one another.
chunks = sa.Table(
    "chunks",
    METADATA,
    sa.Column("id", _LARGE, primary_key=True, autoincrement=False),
    sa.Column("space_id", sa.ForeignKey("spaces.id"), nullable=False),
    sa.Column("document_id", sa.ForeignKey("documents.id"), nullable=False, index=True),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("start", sa.Integer, nullable=False),
    sa.Column("end", sa.Integer, nullable=False),
    sa.Column("tokens", sa.Integer, nullable=False),
    sa.Column("embed_key", sa.LargeBinary, nullable=False, index=True),
    sa.Column("section", sa.Text, nullable=False),
    sa.Column("prefix", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)
# One blob a document: float32, little endian, (rows, dimensions); row i is chunk
# first_chunk + i. Loading ten thousand vectors is then a few hundred rows, not ten thousand.
vectors = sa.Table(
    "vectors",
    METADATA,
    # Documents are taken out one by one, spaces are read and dropped whole.
    sa.Column("document_id", sa.ForeignKey("documents.id"), primary_key=True),
    sa.Column("space_id", sa.ForeignKey("spaces.id"), primary_key=True),
    sa.Column("first_chunk", _LARGE, nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
problems = sa.Table(
    "problems",
    METADATA,
    sa.Column("source_id", sa.ForeignKey("sources.id"), primary_key=True),
    sa.Column("path", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("digest", sa.LargeBinary),
    sa.Column("recipe", sa.Text, nullable=False),
)
# One blob a document, in the form that `words.posting_blob` gives it.
postings = sa.Table(
    "postings",
    METADATA,
    sa.Column("document_id", sa.ForeignKey("documents.id"), primary_key=True),
    sa.Column("space_id", sa.ForeignKey("spaces.id"), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)
_META = sa.select(meta)


def get_meta(connection: sa.Connection) -> dict[str, str]:
    return {row.key: row.value for row in connection.execute(_META)}


def set_meta(connection: sa.Connection, **values: str) -> None:
    for key, value in values.items():
        connection.execute(sa.delete(meta).where(meta.c.key == key))
        connection.execute(sa.insert(meta).values(key=key, value=value))


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
