"""Is the index what it says it is? Everything checked against the stored text.

Also `logical_content`: what an index holds apart from row numbers and file times, so that two
indexes of the same documents can be compared.

`measure_recall`: how much of what an exact search finds an approximate one finds. Passages of the
index are the queries, each itself left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.rag.catalogue.database import Database
from lmstack.rag.catalogue.rules import labels_of, read_rules
from lmstack.rag.catalogue.schema import (
    ACTIVE,
    chunks,
    documents,
    load_fields,
    packed_size,
    postings,
    read_form,
    texts,
    unpack_vectors,
    vectors,
)
from lmstack.rag.catalogue.snapshot import DocumentKey, absolute_path, source_roots
from lmstack.rag.chunk import embedded_text
from lmstack.rag.words import is_of_other_version, posting_blob

__all__ = ["Recall", "VerifyReport", "logical_content", "measure_recall", "verify_database"]

_K = 10
_QUERIES = 200
_RESAMPLES = 2000
# Cosines so near to that of the last place count as in it: single precision cannot tell them.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Recall:
    """Mean share of the true nearest ``k`` that was found, and its 95 % interval (bootstrap
    over queries)."""

    k: int
    queries: int
    mean: float
    low: float
    high: float


def measure_recall(
    find: Callable[[npt.NDArray[np.float32], int], Sequence[int]],
    ids: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32],
    *,
    seed: int = 0,
) -> Recall | None:
    """``find(vector, k)`` gives the ids of the nearest, best first; ``vectors`` (N, D) are those
    of ``ids``. None where there are too few to ask for."""
    if len(ids) <= _K:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(ids), min(_QUERIES, len(ids)), replace=False)
    shares = np.empty(len(chosen))
    for n, row in enumerate(chosen):
        scores = vectors @ vectors[row]
        scores[row] = -np.inf
        bar = np.partition(scores, len(scores) - _K)[len(scores) - _K] - _TOLERANCE
        good = set(ids[scores >= bar].tolist())
        found = [each for each in map(int, find(vectors[row], _K + 1)) if each != ids[row]]
        shares[n] = len(good.intersection(found[:_K])) / _K
    means = rng.choice(shares, (_RESAMPLES, len(shares))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Recall(_K, len(shares), float(shares.mean()), float(low), float(high))


_UNIT_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """``findings`` is empty when all is well; each names the document and what is wrong.
    ``recall``: of the search that picks candidates by signs, against the exact one; None where
    the index is damaged or too small."""

    documents: int
    chunks: int
    findings: tuple[str, ...]
    recall: Recall | None = None

    @property
    def ok(self) -> bool:
        return not self.findings


def verify_database(database: Database, dimensions: int) -> VerifyReport:
    """Read everything and check labels, hashes, offsets, postings, vectors and the database's own
    pages."""
    findings: list[str] = []
    with database.reading() as connection:
        findings += database.findings(connection)
        count = 0
        chunk_count = 0
        roots, rules = source_roots(connection), read_rules(connection)
        for row in connection.execute(
            sa.select(documents, texts.c.text, texts.c.digest.label("text_digest")).join_from(
                documents, texts, documents.c.id == texts.c.document_id, isouter=True
            )
        ):
            count += 1
            path = absolute_path(roots, DocumentKey(row.source_id, row.path))
            if set(json.loads(row.labels)) != labels_of(path, load_fields(row.fields), rules):
                findings.append(f"{path}: its access labels are not those of its rules and fields")
            if row.text is None or hashlib.sha256(row.text.encode()).digest() != row.text_digest:
                findings.append(f"{path}: the stored text does not have its hash")
                continue
            found, problems = _chunk_findings(connection, row)
            chunk_count += found
            problems += _vector_findings(connection, row.id, found, dimensions)
            problems += _posting_findings(connection, row.id)
            findings += [f"{path}: {problem}" for problem in problems]
        active = sa.select(sa.func.count()).where(chunks.c.space_id == ACTIVE)
        total = connection.execute(active).scalar_one()
        if total != chunk_count and not findings:
            findings.append(f"{total - chunk_count} chunks belong to no document")
    return VerifyReport(count, chunk_count, tuple(findings))


def _chunk_findings(connection: sa.Connection, document: Any) -> tuple[int, list[str]]:
    findings: list[str] = []
    mine = (chunks.c.space_id == ACTIVE) & (chunks.c.document_id == document.id)
    rows = connection.execute(sa.select(chunks).where(mine).order_by(chunks.c.id)).all()
    before, position = -1, 0
    for ordinal, row in enumerate(rows):
        embedded = embedded_text(row.prefix, row.text).encode("utf-8", "surrogatepass")
        # They may overlap, but none holds another.
        ascends = row.start > before and row.end > position
        if document.text[row.start : row.end] != row.text or not ascends:
            findings.append(f"chunk {ordinal} is not the text at {row.start}-{row.end}")
        if row.ordinal != ordinal or row.id != rows[0].id + ordinal:
            findings.append(f"chunk {ordinal} is out of order")
        if hashlib.blake2b(embedded, digest_size=16).digest() != row.embed_key:
            findings.append(f"chunk {ordinal} does not have its hash")
        before, position = row.start, row.end
    if len(rows) != document.chunk_count:
        findings.append(f"{len(rows)} chunks where {document.chunk_count} were written")
    return len(rows), findings


def _vector_findings(
    connection: sa.Connection, document_id: int, count: int, dimensions: int
) -> list[str]:
    row = connection.execute(
        sa.select(vectors).where(
            (vectors.c.space_id == ACTIVE) & (vectors.c.document_id == document_id)
        )
    ).one_or_none()
    if row is None:
        return ["has no vectors"]
    if (row.rows, row.dimensions) != (count, dimensions):
        return [
            f"has {row.rows} vectors of {row.dimensions} dimensions for {count} chunks of "
            f"{dimensions}"
        ]
    size = packed_size(read_form(connection), count, dimensions)
    if len(row.data) != size:
        return [f"vectors take {len(row.data)} bytes, not {size}"]
    lengths = np.linalg.norm(unpack_vectors(row.data, count, dimensions), axis=1)
    off = np.flatnonzero(~(np.abs(lengths - 1) < _UNIT_TOLERANCE))
    return [f"vector {off[0]} has the length {lengths[off[0]]:.3g}, not 1"] if len(off) else []


def _posting_findings(connection: sa.Connection, document_id: int) -> list[str]:
    mine = (postings.c.space_id == ACTIVE) & (postings.c.document_id == document_id)
    data = connection.execute(sa.select(postings.c.data).where(mine)).scalar()
    cut = connection.execute(
        sa.select(chunks.c.prefix, chunks.c.text)
        .where((chunks.c.space_id == ACTIVE) & (chunks.c.document_id == document_id))
        .order_by(chunks.c.ordinal)
    )
    if data is None:
        return ["has no postings"]
    same = data == posting_blob([(row.prefix, row.text) for row in cut])
    # Those of another version are made anew when they are loaded, and at the next update.
    return [] if same or is_of_other_version(data) else ["its postings do not match its chunks"]


def logical_content(connection: sa.Connection) -> Iterator[tuple[object, ...]]:
    """Per document, in the order of paths: path, hashes, text, chunks and vectors."""
    roots = source_roots(connection)
    rows = connection.execute(
        sa.select(
            documents,
            texts.c.text,
            texts.c.sections,
            texts.c.blocks,
            texts.c.pages,
            vectors.c.data,
            postings.c.data.label("postings"),
        )
        .join_from(documents, texts, documents.c.id == texts.c.document_id)
        .join(vectors, documents.c.id == vectors.c.document_id)
        .join(postings, documents.c.id == postings.c.document_id)
        .where((vectors.c.space_id == ACTIVE) & (postings.c.space_id == ACTIVE))
    ).all()
    for row in sorted(rows, key=lambda r: absolute_path(roots, DocumentKey(r.source_id, r.path))):
        cut = connection.execute(
            sa.select(chunks)
            .where((chunks.c.space_id == ACTIVE) & (chunks.c.document_id == row.id))
            .order_by(chunks.c.ordinal)
        )
        yield (
            absolute_path(roots, DocumentKey(row.source_id, row.path)),
            row.digest,
            row.recipe,
            row.format,
            row.title,
            row.language,
            row.fields,
            row.labels,
            row.text,
            row.sections,
            row.blocks,
            row.pages,
            tuple(
                (c.start, c.end, c.tokens, c.prefix, tuple(json.loads(c.section)), c.text)
                for c in cut
            ),
            row.data,
            row.postings,
        )
