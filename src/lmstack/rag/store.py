"""Rows in and out of an index, one function a question. Callers own the transaction.

Covers what is stored and how it is found again; decides nothing about when to (`update`) or
what a search makes of it (`search`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.rag.chunk import Chunk, embedded_text
from lmstack.rag.documents import Document, Problem, Section
from lmstack.rag.lexical import pieces_of
from lmstack.rag.load import Fingerprint
from lmstack.rag.memory import Key, absolute_path, inode_key, source_roots
from lmstack.rag.schema import (
    chunks,
    documents,
    exclusions,
    meta,
    problems,
    sources,
    texts,
    vectors,
)

__all__ = [
    "DocumentInfo",
    "NewDocument",
    "Vectors",
    "absorb_sources",
    "embed_key",
    "find_vectors",
    "list_documents",
    "put_document",
    "put_problem",
    "read_document",
    "remove_all_documents",
    "remove_document",
    "remove_problem",
    "remove_sources",
    "set_exclusions",
    "set_inodes",
    "set_meta",
    "touch_documents",
    "vectors_of",
]

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NewDocument:
    """Everything that one transaction writes for one document."""

    key: Key
    document: Document
    digest: bytes
    recipe: str
    fingerprint: Fingerprint
    checked_ns: int
    chunks: Sequence[Chunk]


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """One line of the list of documents."""

    id: int
    path: str
    title: str
    format: str
    chunks: int


def embed_key(chunk: Chunk) -> bytes:
    """Names what the embedder sees of a chunk, so that an equal text is embedded once."""
    text = embedded_text(chunk.prefix, chunk.text)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def set_meta(connection: sa.Connection, **values: str) -> None:
    for key, value in values.items():
        connection.execute(sa.delete(meta).where(meta.c.key == key))
        connection.execute(sa.insert(meta).values(key=key, value=value))


def _next_revision(connection: sa.Connection) -> int:
    """Count one more change; readers compare it with what they cached."""
    row = connection.execute(sa.select(meta.c.value).where(meta.c.key == "generation"))
    generation = int(row.scalar() or 0) + 1
    set_meta(connection, generation=str(generation))
    return generation


def absorb_sources(connection: sa.Connection, root: str) -> int:
    """The id of the source that holds ``root``, made if none does. Sources inside a new one
    become part of it: their documents stay, under their longer path."""
    prefix = root.rstrip(os.sep) + os.sep
    for source_id, other in source_roots(connection).items():
        if root == other or root.startswith(other.rstrip(os.sep) + os.sep):
            return source_id
    result = connection.execute(sa.insert(sources).values(root=root).returning(sources.c.id))
    new_id = int(result.scalar_one())
    for source_id, other in source_roots(connection).items():
        if not other.startswith(prefix):
            continue
        inner = other[len(prefix) :].replace(os.sep, "/")
        for table in (documents, problems):
            path = sa.case(
                (table.c.path == ".", sa.literal(inner)),
                else_=sa.literal(f"{inner}/").concat(table.c.path),
            )
            connection.execute(
                sa.update(table)
                .where(table.c.source_id == source_id)
                .values(source_id=new_id, path=path)
            )
        connection.execute(sa.delete(sources).where(sources.c.id == source_id))
    return new_id


def set_exclusions(connection: sa.Connection, add: Iterable[str], drop: Iterable[str]) -> None:
    """Paths that a user removed stay out of their source until they are added again."""
    for path in drop:
        connection.execute(sa.delete(exclusions).where(exclusions.c.path == path))
    for path in add:
        connection.execute(sa.insert(exclusions).prefix_with("OR IGNORE").values(path=path))


def remove_document(connection: sa.Connection, key: Key) -> bool:
    """Take a document with its chunks, postings and vectors out."""
    where = (documents.c.source_id == key.source_id) & (documents.c.path == key.path)
    found = connection.execute(sa.select(documents.c.id).where(where)).scalar()
    if found is None:
        return False
    for table in (vectors, chunks, texts):
        connection.execute(sa.delete(table).where(table.c.document_id == found))
    connection.execute(sa.delete(documents).where(documents.c.id == found))
    _next_revision(connection)
    return True


def put_document(connection: sa.Connection, new: NewDocument, matrix: Vectors) -> int:
    """Write a document in place of what its path held before; returns its id."""
    remove_document(connection, new.key)
    remove_problem(connection, new.key)
    result = connection.execute(
        sa.insert(documents)
        .values(
            source_id=new.key.source_id,
            path=new.key.path,
            digest=new.digest,
            recipe=new.recipe,
            **_stat_columns(new.fingerprint, new.checked_ns),
            format=new.document.format,
            title=new.document.title,
            chunk_count=len(new.chunks),
            revision=_next_revision(connection),
        )
        .returning(documents.c.id)
    )
    document_id = int(result.scalar_one())
    connection.execute(
        sa.insert(texts).values(
            document_id=document_id,
            digest=hashlib.sha256(new.document.text.encode()).digest(),
            sections=_dump_sections(new.document.sections),
            text=new.document.text,
        )
    )
    first = _put_chunks(connection, document_id, new.chunks)
    connection.execute(
        sa.insert(vectors).values(
            document_id=document_id,
            first_chunk=first,
            rows=len(matrix),
            dimensions=matrix.shape[1],
            data=np.ascontiguousarray(matrix, "<f4").tobytes(),
        )
    )
    return document_id


def _put_chunks(connection: sa.Connection, document_id: int, cut: Sequence[Chunk]) -> int:
    """Write chunks under ids that were never used and follow one another; the first of them."""
    last = connection.exec_driver_sql("SELECT seq FROM sqlite_sequence WHERE name = 'chunks'")
    first = int(last.scalar() or 0) + 1
    rows = [
        {
            "id": first + ordinal,
            "document_id": document_id,
            "ordinal": ordinal,
            "start": chunk.start,
            "end": chunk.end,
            "tokens": chunk.tokens,
            "embed_key": embed_key(chunk),
            "section": json.dumps(chunk.section, ensure_ascii=False),
            "prefix": chunk.prefix,
            "text": chunk.text,
            "pieces": pieces_of(f"{chunk.prefix} {chunk.text}"),
        }
        for ordinal, chunk in enumerate(cut)
    ]
    connection.execute(sa.insert(chunks), rows)
    return first


def _dump_sections(sections: Iterable[Section]) -> str:
    return json.dumps(
        [[s.title, s.level, s.start, s.end, s.path] for s in sections], ensure_ascii=False
    )


def _stat_columns(fingerprint: Fingerprint, checked_ns: int) -> dict[str, int]:
    return {
        "size": fingerprint.size,
        "mtime_ns": fingerprint.mtime_ns,
        "ctime_ns": fingerprint.ctime_ns,
        "inode": fingerprint.inode,
        "checked_ns": checked_ns,
    }


def touch_documents(
    connection: sa.Connection, touched: Iterable[tuple[int, Fingerprint, int]]
) -> None:
    """Remember new file times of documents whose content did not change."""
    for document_id, fingerprint, checked_ns in touched:
        values: dict[str, Any] = _stat_columns(fingerprint, checked_ns)
        connection.execute(
            sa.update(documents).where(documents.c.id == document_id).values(**values)
        )


def set_inodes(connection: sa.Connection, inodes: Mapping[int, int]) -> None:
    """Remember which folder each source is."""
    set_meta(connection, **{inode_key(i): str(inode) for i, inode in inodes.items()})


def put_problem(
    connection: sa.Connection, key: Key, problem: Problem, digest: bytes | None, recipe: str
) -> None:
    remove_problem(connection, key)
    connection.execute(
        sa.insert(problems).values(
            source_id=key.source_id,
            path=key.path,
            kind=problem.kind,
            message=problem.message,
            hint=problem.hint,
            digest=digest,
            recipe=recipe,
        )
    )


def remove_problem(connection: sa.Connection, key: Key) -> None:
    connection.execute(
        sa.delete(problems).where(
            (problems.c.source_id == key.source_id) & (problems.c.path == key.path)
        )
    )


def find_vectors(connection: sa.Connection, keys: Sequence[bytes]) -> dict[bytes, Vectors]:
    """Vectors that the index already holds for equal texts."""
    where: dict[int, dict[bytes, int]] = {}
    seen: set[bytes] = set()
    for start in range(0, len(keys), 500):
        rows = connection.execute(
            sa.select(chunks.c.embed_key, chunks.c.document_id, chunks.c.ordinal).where(
                chunks.c.embed_key.in_(keys[start : start + 500])
            )
        )
        for row in rows:
            if row.embed_key not in seen:
                seen.add(row.embed_key)
                where.setdefault(row.document_id, {})[row.embed_key] = row.ordinal
    found: dict[bytes, Vectors] = {}
    for document_id, ordinals in where.items():
        query = sa.select(vectors).where(vectors.c.document_id == document_id)
        row = connection.execute(query).one()
        matrix = np.frombuffer(row.data, "<f4").reshape(row.rows, row.dimensions)
        # Copies: a view would keep the document's whole blob in memory.
        found.update({key: matrix[ordinal].copy() for key, ordinal in ordinals.items()})
    return found


def vectors_of(connection: sa.Connection, keys: Sequence[Key], limit: int) -> dict[bytes, Vectors]:
    """The vectors of whole documents by `embed_key`, of at most about ``limit`` chunks."""
    found: dict[bytes, Vectors] = {}
    for key in keys:
        if len(found) >= limit:
            break
        rows = connection.execute(
            sa.select(chunks.c.embed_key)
            .join_from(chunks, documents, chunks.c.document_id == documents.c.id)
            .where((documents.c.source_id == key.source_id) & (documents.c.path == key.path))
        )
        found.update(find_vectors(connection, rows.scalars().all()))
    return found


def remove_all_documents(connection: sa.Connection) -> None:
    for table in (vectors, chunks, texts, documents, problems):
        connection.execute(sa.delete(table))


def remove_sources(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Forget sources whose documents and problems are already out."""
    connection.execute(sa.delete(meta).where(meta.c.key.in_(map(inode_key, ids))))
    connection.execute(sa.delete(sources).where(sources.c.id.in_(ids)))


def list_documents(connection: sa.Connection) -> list[DocumentInfo]:
    """All documents, by absolute path."""
    roots = source_roots(connection)
    infos = [
        DocumentInfo(
            row.id,
            absolute_path(roots, Key(row.source_id, row.path)),
            row.title,
            row.format,
            row.chunk_count,
        )
        for row in connection.execute(sa.select(documents))
    ]
    return sorted(infos, key=lambda info: info.path)


def read_document(connection: sa.Connection, which: int | str) -> Document | None:
    """A document by its id or absolute path, with its absolute path and without blocks."""
    roots = source_roots(connection)
    query = sa.select(documents, texts.c.text, texts.c.sections).join_from(
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
    if row is None:
        return None
    sections = tuple(
        Section(title, level, start, end, tuple(above))
        for title, level, start, end, above in json.loads(row.sections)
    )
    path = absolute_path(roots, Key(row.source_id, row.path))
    return Document(path, row.text, row.format, row.title, sections, ())


def _key_in(source_id: int, root: str, path: str) -> Key | None:
    if path == root:
        return Key(source_id, ".")
    if not path.startswith(root.rstrip(os.sep) + os.sep):
        return None
    return Key(source_id, os.path.relpath(path, root).replace(os.sep, "/"))
