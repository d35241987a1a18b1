"""What an index holds: its sources and files as an update needs to know them, documents as people
see them, listed and one by one.

Covers reading only, and callers own the transaction; `rows` changes what is held.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.rag.catalogue.rules import UNREADABLE, SourceRules, may_see
from lmstack.rag.catalogue.schema import (
    ACTIVE,
    all_fields,
    chunks,
    documents,
    exclusions,
    get_meta,
    iso_time,
    load_blocks,
    load_fields,
    load_pages,
    load_sections,
    problems,
    sources,
    texts,
    unpack_vectors,
    vectors,
)
from lmstack.rag.documents import Document, Problem
from lmstack.rag.filters import Fields, Filter
from lmstack.rag.formats.load import Fingerprint

__all__ = [
    "CatalogueSnapshot",
    "DocumentInfo",
    "DocumentKey",
    "KnownDocument",
    "StoredPassage",
    "absolute_path",
    "display_path",
    "inode_key",
    "list_documents",
    "read_digest",
    "read_document",
    "read_fields",
    "read_passages",
    "read_snapshot",
    "read_spans",
    "rules_key",
    "source_roots",
    "source_rules",
    "unreadable_labels",
]

_INODE = "inode of source "
_RULES = "rules of source "


@dataclass(frozen=True, slots=True, order=True)
class DocumentKey:
    """Where a document lives: a source and the path in it."""

    source_id: int
    path: str


@dataclass(frozen=True, slots=True)
class KnownDocument:
    """What is remembered of an indexed document, enough to tell whether it changed."""

    id: int
    digest: bytes
    recipe: str
    fingerprint: Fingerprint
    checked_ns: int


@dataclass(frozen=True)
class CatalogueSnapshot:
    """What an index remembers, read in one snapshot. ``inodes``: which folder each source was
    when it was last looked into. ``rules``: of the sources that have some."""

    roots: Mapping[int, str]
    inodes: Mapping[int, int]
    documents: Mapping[DocumentKey, KnownDocument]
    problems: Mapping[DocumentKey, tuple[Problem, bytes | None, str]]
    excluded: frozenset[str]
    recipe: str
    rules: Mapping[int, SourceRules] = field(default_factory=dict)

    def path(self, key: DocumentKey) -> str:
        """The absolute path of a document's file."""
        return absolute_path(self.roots, key)

    def count_of(self, source_id: int) -> int:
        """How many documents a source has."""
        return sum(key.source_id == source_id for key in self.documents)


def absolute_path(roots: Mapping[int, str], key: DocumentKey) -> str:
    """The absolute path of a document's file."""
    root = roots[key.source_id]
    return root if key.path == "." else os.path.join(root, *key.path.split("/"))


# Made once: every search by meaning asks it.
def source_roots(connection: sa.Connection) -> dict[int, str]:
    rows = connection.execute(sa.select(sources).order_by(sources.c.id))
    return {row.id: row.root for row in rows}


def inode_key(source_id: int) -> str:
    """The name in `meta` under which a source's inode is kept."""
    return f"{_INODE}{source_id}"


def rules_key(source_id: int) -> str:
    """The name in `meta` under which a source's rules are kept."""
    return f"{_RULES}{source_id}"


def source_rules(connection: sa.Connection) -> dict[int, SourceRules]:
    """The rules of each source that has some."""
    return {
        int(key.removeprefix(_RULES)): SourceRules.from_mapping(json.loads(value))
        for key, value in get_meta(connection).items()
        if key.startswith(_RULES)
    }


def _inodes(connection: sa.Connection) -> dict[int, int]:
    facts = get_meta(connection).items()
    return {int(k.removeprefix(_INODE)): int(v) for k, v in facts if k.startswith(_INODE)}


def _known_documents(connection: sa.Connection) -> dict[DocumentKey, KnownDocument]:
    columns = documents.c
    rows = connection.execute(
        sa.select(
            columns.id,
            columns.source_id,
            columns.path,
            columns.digest,
            columns.recipe,
            columns.size,
            columns.mtime_ns,
            columns.ctime_ns,
            columns.inode,
            columns.checked_ns,
        )
    )
    return {
        DocumentKey(row.source_id, row.path): KnownDocument(
            row.id,
            row.digest,
            row.recipe,
            Fingerprint(row.size, row.mtime_ns, row.ctime_ns, row.inode),
            row.checked_ns,
        )
        for row in rows
    }


def _known_problems(
    connection: sa.Connection,
) -> dict[DocumentKey, tuple[Problem, bytes | None, str]]:
    """Per file: the problem, the digest of the content that had it, and the recipe."""
    return {
        DocumentKey(row.source_id, row.path): (
            Problem(row.path, row.kind, row.message, row.hint),
            row.digest,
            row.recipe,
        )
        for row in connection.execute(sa.select(problems))
    }


def read_snapshot(connection: sa.Connection, recipe: str) -> CatalogueSnapshot:
    return CatalogueSnapshot(
        source_roots(connection),
        _inodes(connection),
        _known_documents(connection),
        _known_problems(connection),
        frozenset(connection.execute(sa.select(exclusions.c.path)).scalars()),
        recipe,
        source_rules(connection),
    )


def display_path(path: str, folder: str | None = None) -> str:
    """An absolute ``path`` as it opens from ``folder``, None for the current one: relative where
    they share more than the root of the file system."""
    try:
        here = folder or os.getcwd()
    except OSError:  # the current folder was removed
        return path
    return _from_folder(here, path)


@lru_cache(4096)
def _from_folder(here: str, path: str) -> str:
    shared = os.path.commonpath([here, path])
    return path if shared == os.sep else os.path.relpath(path, here)


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
    for row in sorted(rows, key=lambda r: absolute_path(roots, DocumentKey(r.source_id, r.path))):
        path = display_path(absolute_path(roots, DocumentKey(row.source_id, row.path)))
        cut = connection.execute(
            sa.select(chunks.c.start, chunks.c.end, chunks.c.text)
            .where((chunks.c.space_id == ACTIVE) & (chunks.c.document_id == row.id))
            .order_by(chunks.c.ordinal)
        )
        passages += [StoredPassage(path, c.start, c.end, c.text) for c in cut]
        parts.append(unpack_vectors(row.data, row.rows, dimensions))
    return passages, np.concatenate(parts)


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """One line of the list of documents. ``fields`` is all that filters may ask for;
    ``modified`` is in UTC, ISO 8601; ``size`` is that of the file, in bytes."""

    id: int
    path: str
    title: str
    format: str
    chunks: int
    language: str = ""
    size: int = 0
    modified: str = ""
    fields: Fields = field(default_factory=dict)
    labels: tuple[str, ...] = ()


def list_documents(
    connection: sa.Connection,
    where: Filter | None = None,
    held: frozenset[str] | None = None,
) -> list[DocumentInfo]:
    """Documents that match and that a caller with the labels ``held`` may see, by absolute
    path."""
    roots = source_roots(connection)
    rows = connection.execute(sa.select(documents))
    infos = [info for row in rows if may_see(held, (info := _info(row, roots)).labels)]
    found = [info for info in infos if where is None or where.matches(info.fields)]
    return sorted(found, key=lambda info: info.path)


def unreadable_labels(connection: sa.Connection) -> list[DocumentKey]:
    """Documents whose own labels cannot be read, so that only the owner sees them."""
    rows = connection.execute(
        sa.select(documents.c.source_id, documents.c.path, documents.c.labels)
    )
    return [
        DocumentKey(row.source_id, row.path) for row in rows if UNREADABLE in json.loads(row.labels)
    ]


def _info(row: Any, roots: Mapping[int, str]) -> DocumentInfo:
    path = absolute_path(roots, DocumentKey(row.source_id, row.path))
    fields = all_fields(row, load_fields(row.fields), roots[row.source_id], path)
    return DocumentInfo(
        row.id,
        path,
        row.title,
        row.format,
        row.chunk_count,
        row.language,
        row.size,
        iso_time(row.mtime_ns),
        fields,
        tuple(json.loads(row.labels)),
    )


def read_document(
    connection: sa.Connection,
    which: int | str,
    held: frozenset[str] | None = None,
    where: Filter | None = None,
) -> Document | None:
    """A document by its id or absolute path, with its absolute path; None if there is none that
    matches ``where`` and that a caller with the labels ``held`` may see."""
    roots = source_roots(connection)
    kept = (texts.c.text, texts.c.sections, texts.c.blocks, texts.c.pages)
    query = sa.select(documents, *kept).join_from(
        documents, texts, documents.c.id == texts.c.document_id
    )
    if isinstance(which, int):
        query = query.where(documents.c.id == which)
    else:
        keys = [_key_in(source_id, root, which) for source_id, root in roots.items()]
        query = query.where(
            sa.tuple_(documents.c.source_id, documents.c.path).in_(
                [(key.source_id, key.path) for key in keys if key]
            )
        )
    row = connection.execute(query).one_or_none()
    if row is None or not may_see(held, json.loads(row.labels)):
        return None
    if where is not None and not where.matches(_info(row, roots).fields):
        return None
    return Document(
        path=absolute_path(roots, DocumentKey(row.source_id, row.path)),
        text=row.text,
        format=row.format,
        title=row.title,
        sections=load_sections(row.sections),
        blocks=load_blocks(row.blocks),
        pages=load_pages(row.pages),
        fields=load_fields(row.fields),
        language=row.language,
    )


def read_digest(connection: sa.Connection, document_id: int) -> bytes | None:
    """The SHA-256 of the file that a document was made from."""
    query = sa.select(documents.c.digest).where(documents.c.id == document_id)
    found: bytes | None = connection.execute(query).scalar()
    return found


def read_fields(
    connection: sa.Connection, ids: Sequence[int], held: frozenset[str] | None = None
) -> dict[int, Fields]:
    """All that filters may ask of the documents ``ids`` that are there and that a caller with
    the labels ``held`` may see."""
    roots = source_roots(connection)
    rows = connection.execute(sa.select(documents).where(documents.c.id.in_(ids)))
    infos = (_info(row, roots) for row in rows)
    return {info.id: info.fields for info in infos if may_see(held, info.labels)}


def read_spans(
    connection: sa.Connection, document_id: int, held: frozenset[str] | None = None
) -> list[tuple[int, int]]:
    """(start, end) of each passage of a document, in order; none of a document that is gone or
    that a caller with the labels ``held`` may not see."""
    query = (
        sa.select(chunks.c.start, chunks.c.end, documents.c.labels)
        .join_from(chunks, documents, chunks.c.document_id == documents.c.id)
        .where((chunks.c.space_id == ACTIVE) & (chunks.c.document_id == document_id))
        .order_by(chunks.c.id)
    )
    rows = connection.execute(query)
    return [(row.start, row.end) for row in rows if may_see(held, json.loads(row.labels))]


def _key_in(source_id: int, root: str, path: str) -> DocumentKey | None:
    if path == root:
        return DocumentKey(source_id, ".")
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        return None
    return DocumentKey(source_id, os.path.relpath(path, root).replace(os.sep, "/"))
