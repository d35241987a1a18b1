"""Rows in and out of an index, one function a question. Callers own the transaction.

Covers what is stored and how it is found again; decides nothing about when to (`update`) or
what a search makes of it (`retrieve`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import InputError, shown
from lmstack.rag.catalogue.duplicates import sketch_of
from lmstack.rag.catalogue.rules import IGNORE_FILE, SourceRules, labels_of, read_rules
from lmstack.rag.catalogue.schema import (
    ACTIVE,
    chunks,
    documents,
    dump_blocks,
    dump_fields,
    dump_pages,
    dump_sections,
    exclusions,
    label_rules,
    load_fields,
    meta,
    pack_vectors,
    postings,
    problems,
    read_form,
    set_meta,
    sources,
    texts,
    unpack_vectors,
    vectors,
)
from lmstack.rag.catalogue.snapshot import (
    DocumentKey,
    absolute_path,
    inode_key,
    rules_key,
    source_roots,
    source_rules,
)
from lmstack.rag.chunk import Chunk, embedded_text
from lmstack.rag.documents import Document, Problem
from lmstack.rag.formats.load import Fingerprint
from lmstack.rag.words import posting_blob

__all__ = [
    "NewDocument",
    "Vectors",
    "absorb_sources",
    "embed_key",
    "find_vectors",
    "next_revision",
    "put_document",
    "put_passages",
    "put_problem",
    "remove_all_documents",
    "remove_document",
    "remove_problem",
    "remove_sources",
    "set_exclusions",
    "set_inodes",
    "set_labels",
    "set_source_rules",
    "touch_documents",
    "vectors_of",
]

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class NewDocument:
    """Everything that one transaction writes for one document."""

    key: DocumentKey
    document: Document
    digest: bytes
    recipe: str
    fingerprint: Fingerprint
    checked_ns: int
    chunks: Sequence[Chunk]


def embed_key(chunk: Chunk) -> bytes:
    """Names what the embedder sees of a chunk, so that an equal text is embedded once."""
    text = embedded_text(chunk.prefix, chunk.text)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def next_revision(connection: sa.Connection) -> int:
    """Count one more change; readers compare it with what they cached."""
    return _count_on(connection, "generation", 1)


def _count_on(connection: sa.Connection, name: str, by: int) -> int:
    """The counter ``name`` in `meta`, raised."""
    row = connection.execute(sa.select(meta.c.value).where(meta.c.key == name))
    number = int(row.scalar() or 0) + by
    set_meta(connection, **{name: str(number)})
    return number


def absorb_sources(connection: sa.Connection, root: str) -> int:
    """The id of the source that holds ``root``, made if none does. Sources inside a new one
    become part of it: their documents stay, under their longer path."""
    prefix = root.rstrip(os.sep) + os.sep
    for source_id, other in source_roots(connection).items():
        if root == other or root.startswith(other.rstrip(os.sep) + os.sep):
            return source_id
    rules = source_rules(connection)
    for source_id, other in source_roots(connection).items():
        if other.startswith(prefix) and str(rules.get(source_id, "")):
            raise InputError(
                f"{shown(other)} is a source with rules of its own ({rules[source_id]}), which "
                f"would be lost in {shown(root)}",
                hint=f"lmstack index remove it first, or put the rules into {IGNORE_FILE} there",
                param="paths",
            )
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
        # The source of a document is one of its fields.
        moved = documents.c.source_id == new_id
        revision = next_revision(connection)
        connection.execute(sa.update(documents).where(moved).values(revision=revision))
        connection.execute(sa.delete(sources).where(sources.c.id == source_id))
    return new_id


def set_exclusions(connection: sa.Connection, add: Iterable[str], drop: Iterable[str]) -> None:
    """Paths that a user removed stay out of their source until they are added again."""
    for path in drop:
        connection.execute(sa.delete(exclusions).where(exclusions.c.path == path))
    known = set(connection.execute(sa.select(exclusions.c.path)).scalars())
    for path in set(add) - known:
        connection.execute(sa.insert(exclusions).values(path=path))


def remove_document(connection: sa.Connection, key: DocumentKey) -> bool:
    """Take a document with its chunks, postings and vectors out."""
    where = (documents.c.source_id == key.source_id) & (documents.c.path == key.path)
    found = connection.execute(sa.select(documents.c.id).where(where)).scalar()
    if found is None:
        return False
    for table in (postings, vectors, chunks, texts):
        connection.execute(sa.delete(table).where(table.c.document_id == found))
    connection.execute(sa.delete(documents).where(documents.c.id == found))
    next_revision(connection)
    return True


def put_document(connection: sa.Connection, new: NewDocument, matrix: Vectors) -> int:
    """Write a document in place of what its path held before; returns its id."""
    remove_document(connection, new.key)
    remove_problem(connection, new.key)
    path = absolute_path(source_roots(connection), new.key)
    labels = labels_of(path, new.document.fields, read_rules(connection))
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
            language=new.document.language,
            fields=dump_fields(new.document.fields),
            labels=json.dumps(sorted(labels)),
            chunk_count=len(new.chunks),
            revision=next_revision(connection),
        )
        .returning(documents.c.id)
    )
    document_id = int(result.scalar_one())
    connection.execute(
        sa.insert(texts).values(
            document_id=document_id,
            digest=hashlib.sha256(new.document.text.encode()).digest(),
            sections=dump_sections(new.document.sections),
            text=new.document.text,
            blocks=dump_blocks(new.document.blocks),
            pages=dump_pages(new.document.pages),
            sketch=sketch_of(new.document.text),
        )
    )
    space_id = int(connection.execute(sa.select(ACTIVE)).scalar_one())
    put_passages(connection, space_id, document_id, new.chunks, matrix)
    return document_id


def put_passages(
    connection: sa.Connection,
    space_id: int,
    document_id: int,
    cut: Sequence[Chunk],
    matrix: Vectors,
) -> None:
    """Write what one space holds of a document: chunks, their vectors and their postings."""
    first = _put_chunks(connection, space_id, document_id, cut)
    whose = {"space_id": space_id, "document_id": document_id}
    connection.execute(
        sa.insert(vectors).values(
            **whose,
            first_chunk=first,
            rows=len(matrix),
            dimensions=matrix.shape[1],
            data=pack_vectors(matrix, read_form(connection)),
        )
    )
    blob = posting_blob([(chunk.prefix, chunk.text) for chunk in cut])
    connection.execute(sa.insert(postings).values(**whose, data=blob))


def _put_chunks(
    connection: sa.Connection, space_id: int, document_id: int, cut: Sequence[Chunk]
) -> int:
    """Write chunks under ids that were never used and follow one another; the first of them."""
    first = _count_on(connection, "last_chunk", len(cut)) - len(cut) + 1
    rows = [
        {
            "id": first + ordinal,
            "space_id": space_id,
            "document_id": document_id,
            "ordinal": ordinal,
            "start": chunk.start,
            "end": chunk.end,
            "tokens": chunk.tokens,
            "embed_key": embed_key(chunk),
            "section": json.dumps(chunk.section, ensure_ascii=False),
            "prefix": chunk.prefix,
            "text": chunk.text,
        }
        for ordinal, chunk in enumerate(cut)
    ]
    connection.execute(sa.insert(chunks), rows)
    return first


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
        where = documents.c.id == document_id
        known = connection.execute(sa.select(documents.c.mtime_ns).where(where)).scalar()
        if known is not None and known != fingerprint.mtime_ns:  # it is a field
            values["revision"] = next_revision(connection)
        connection.execute(sa.update(documents).where(where).values(**values))


def set_inodes(connection: sa.Connection, inodes: Mapping[int, int]) -> None:
    """Remember which folder each source is."""
    set_meta(connection, **{inode_key(i): str(inode) for i, inode in inodes.items()})


def set_source_rules(connection: sa.Connection, source_id: int, rules: SourceRules) -> None:
    """What is read of a source from now on."""
    set_meta(connection, **{rules_key(source_id): json.dumps(dataclasses.asdict(rules))})


def put_problem(
    connection: sa.Connection, key: DocumentKey, problem: Problem, digest: bytes | None, recipe: str
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


def remove_problem(connection: sa.Connection, key: DocumentKey) -> None:
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
                (chunks.c.space_id == ACTIVE) & chunks.c.embed_key.in_(keys[start : start + 500])
            )
        )
        for row in rows:
            if row.embed_key not in seen:
                seen.add(row.embed_key)
                where.setdefault(row.document_id, {})[row.embed_key] = row.ordinal
    found: dict[bytes, Vectors] = {}
    for document_id, ordinals in where.items():
        query = sa.select(vectors).where(
            (vectors.c.space_id == ACTIVE) & (vectors.c.document_id == document_id)
        )
        row = connection.execute(query).one()
        matrix = unpack_vectors(row.data, row.rows, row.dimensions)
        # Copies: a view would keep the document's whole blob in memory.
        found.update({key: matrix[ordinal].copy() for key, ordinal in ordinals.items()})
    return found


def vectors_of(
    connection: sa.Connection, keys: Sequence[DocumentKey], limit: int
) -> dict[bytes, Vectors]:
    """The vectors of whole documents by `embed_key`, of at most about ``limit`` chunks."""
    found: dict[bytes, Vectors] = {}
    for key in keys:
        if len(found) >= limit:
            break
        rows = connection.execute(
            sa.select(chunks.c.embed_key)
            .join_from(chunks, documents, chunks.c.document_id == documents.c.id)
            .where(chunks.c.space_id == ACTIVE)
            .where((documents.c.source_id == key.source_id) & (documents.c.path == key.path))
        )
        found.update(find_vectors(connection, rows.scalars().all()))
    return found


def remove_all_documents(connection: sa.Connection) -> None:
    for table in (postings, vectors, chunks, texts, documents, problems):
        connection.execute(sa.delete(table))


def remove_sources(connection: sa.Connection, ids: Sequence[int]) -> None:
    """Forget sources whose documents and problems are already out."""
    keys = [key(i) for i in ids for key in (inode_key, rules_key)]
    connection.execute(sa.delete(meta).where(meta.c.key.in_(keys)))
    connection.execute(sa.delete(sources).where(sources.c.id.in_(ids)))


def set_labels(connection: sa.Connection, path: str, labels: frozenset[str] | None) -> int:
    """Give the absolute ``path`` and what is under it these labels besides their own; None
    takes those given before away. The number of documents whose labels changed."""
    connection.execute(sa.delete(label_rules).where(label_rules.c.path == path))
    if labels is not None:
        rule = sa.insert(label_rules).values(path=path, labels=json.dumps(sorted(labels)))
        connection.execute(rule)
    rules, roots = read_rules(connection), source_roots(connection)
    columns = documents.c
    changed = 0
    for row in connection.execute(
        sa.select(columns.id, columns.source_id, columns.path, columns.fields, columns.labels)
    ).all():
        place = absolute_path(roots, DocumentKey(row.source_id, row.path))
        now = json.dumps(sorted(labels_of(place, load_fields(row.fields), rules)))
        if now != row.labels:
            changed += 1
            connection.execute(
                sa.update(documents)
                .where(columns.id == row.id)
                .values(labels=now, revision=next_revision(connection))
            )
    return changed
