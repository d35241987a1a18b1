"""One query to ranked passages: by meaning, by words, fused by reciprocal rank.

Everything of one search is read in one snapshot. Fusion: Cormack, Clarke and Buettcher 2009,
score = sum over lists of 1 / (60 + rank).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import sqlalchemy as sa

from lmstack.core import Config, Embedder, InputError, check_range, shown
from lmstack.rag.dense import MatrixCache
from lmstack.rag.documents import page_of
from lmstack.rag.lexical import lexical_search
from lmstack.rag.memory import Key, absolute_path, source_roots
from lmstack.rag.plan import display_path
from lmstack.rag.schema import chunks, documents, texts
from lmstack.rag.structure import load_pages

__all__ = ["Hit", "Mode", "SearchConfig", "check_query", "fuse", "query_vector", "run_search"]

Mode = Literal["hybrid", "dense", "lexical"]
MAX_HITS = 1000


@dataclass(frozen=True)
class SearchConfig(Config):
    """``depth``: how far down each list fusion looks (at least k). ``rrf_k`` flattens ranks:
    the larger, the less the first places matter. Weights multiply the list's share."""

    depth: int = 100
    rrf_k: float = 60.0
    dense_weight: float = 1.0
    lexical_weight: float = 1.0

    def __post_init__(self) -> None:
        check_range("depth", self.depth, 1, 100_000)
        check_range("rrf_k", self.rrf_k, 0, 10_000)
        check_range("dense_weight", self.dense_weight, 0, 1000)
        check_range("lexical_weight", self.lexical_weight, 0, 1000)


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. ``path`` opens from the current folder; ``text`` is
    ``document.text[start:end]``; ``page`` is None for formats without pages. ``ranks`` says at
    which place meaning (``dense``) and words (``lexical``) had it, None where they had not.
    ``similarity`` is the cosine with the query, None in lexical mode."""

    rank: int
    score: float
    path: str
    start: int
    end: int
    text: str
    page: int | None
    ranks: Mapping[str, int | None]
    chunk_id: int
    document_id: int
    title: str
    section: tuple[str, ...]
    prefix: str
    similarity: float | None

    def to_json(self) -> dict[str, Any]:
        """The object that ``lmstack search --json`` prints."""
        return {
            "rank": self.rank,
            "score": self.score,
            "path": self.path,
            "start": self.start,
            "end": self.end,
            "text": self.text,
            "page": self.page,
        }


def check_query(query: str, k: int, mode: str) -> None:
    if not query.strip():
        raise InputError("the query is empty", hint="ask something", param="query")
    if mode not in get_args(Mode):
        raise InputError(
            f"mode is {shown(mode)}", hint=f"modes: {', '.join(get_args(Mode))}", param="mode"
        )
    check_range("k", k, 1, MAX_HITS)


def fuse(
    lists: Mapping[str, Sequence[int]], weights: Mapping[str, float], rrf_k: float
) -> list[tuple[int, float]]:
    """Reciprocal rank fusion of lists of ids, best first; equal scores go to the lower id."""
    scores: dict[int, float] = {}
    for name, ids in lists.items():
        for rank, item in enumerate(ids, 1):
            scores[item] = scores.get(item, 0.0) + weights[name] / (rrf_k + rank)
    return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))


def run_search(
    connection: sa.Connection,
    cache: MatrixCache,
    generation: int,
    query: str,
    vector: np.ndarray[Any, np.dtype[np.float32]] | None,
    k: int,
    config: SearchConfig,
    mode: Mode,
    allowed: frozenset[int] | None = None,
) -> list[Hit]:
    """Search within the snapshot of ``connection``, in the documents ``allowed`` (None: all).
    ``vector`` is the query's, None for lexical mode."""
    depth = max(config.depth, k)
    lists: dict[str, list[tuple[int, float]]] = {}
    similarity: Mapping[int, float] = {}
    if vector is not None:
        matrix = cache.get(connection, generation)
        if allowed is not None:
            matrix = matrix.within(allowed)
        scores = matrix.similarities(vector)
        lists["dense"] = matrix.top(scores, depth)
    if mode != "dense":
        lists["lexical"] = lexical_search(connection, query, depth, allowed)
    weights = {"dense": config.dense_weight, "lexical": config.lexical_weight}
    ids = {name: [item for item, _ in found] for name, found in lists.items()}
    best = fuse(ids, weights, config.rrf_k)[:k]
    if vector is not None:
        similarity = {item: float(scores[matrix.row_of(item)]) for item, _ in best}
    return _hits(connection, best, ids, similarity)


def _hits(
    connection: sa.Connection,
    best: Sequence[tuple[int, float]],
    lists: Mapping[str, Sequence[int]],
    similarity: Mapping[int, float],
) -> list[Hit]:
    places = {name: {item: n for n, item in enumerate(found, 1)} for name, found in lists.items()}
    rows = _passages(connection, [item for item, _ in best])
    roots = source_roots(connection)
    return [
        Hit(
            rank=rank,
            score=score,
            path=display_path(absolute_path(roots, Key(row.source_id, row.path))),
            start=row.start,
            end=row.end,
            text=row.text,
            page=page_of(load_pages(row.pages), row.start),
            ranks={name: places.get(name, {}).get(item) for name in ("dense", "lexical")},
            chunk_id=item,
            document_id=row.document_id,
            title=row.title,
            section=tuple(json.loads(row.section)),
            prefix=row.prefix,
            similarity=similarity.get(item),
        )
        for rank, (item, score) in enumerate(best, 1)
        for row in (rows[item],)
    ]


def _passages(connection: sa.Connection, ids: Sequence[int]) -> dict[int, Any]:
    query = (
        sa.select(
            chunks.c.id,
            chunks.c.document_id,
            chunks.c.start,
            chunks.c.end,
            chunks.c.text,
            chunks.c.section,
            chunks.c.prefix,
            documents.c.source_id,
            documents.c.path,
            documents.c.title,
            texts.c.pages,
        )
        .join_from(chunks, documents, chunks.c.document_id == documents.c.id)
        .join(texts, texts.c.document_id == documents.c.id)
        .where(chunks.c.id.in_(ids))
    )
    return {row.id: row for row in connection.execute(query)}


def query_vector(embedder: Embedder, query: str) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The unit vector of a query."""
    return np.asarray(embedder.embed([query], "query")[0], np.float32)
