"""One query to ranked passages: by meaning, by words, and the two lists made one.

Everything of one search is read in one snapshot. Weighted fusion adds the scores themselves:

    score = dense_weight * cosine + lexical_weight * BM25 / (the highest BM25 of this query)

The cosine stays as it is. A question in whole sentences has some that stand far above the rest, and
meaning decides; a single name or number has none, and the passage that holds it does. Bringing both
to the same range, as is usual (Bruch, Gai and Ingber 2023, arXiv:2210.11934), loses that, and names
with it (docs/decisions.md). Where all cosines lie close together, no one weight serves both: words
are then measured against what those of the query could give at most, which a passage that holds a
single name nearly has, and one that shares some words with a question has not:

    score = dense_weight * cosine + lexical_weight * BM25 / (sum of idf)

This is ``covered``. Among documents that look alike cosines say little, and a number or a name in
the query says which is meant: to both sums lexical_weight * evidence / `NAMED` is added for what
singles out the document of a passage (`naming`), and the passages of the document with the most of
it are among those that are fused. Reciprocal rank fusion (Cormack, Clarke and Buettcher 2009) needs
no scores to be comparable: sum over lists of weight / (rrf_k + rank).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import sqlalchemy as sa

from lmstack.core import Config, Embedder, InputError, ModelInfo, check_range, shown
from lmstack.rag.catalogue.schema import chunks, documents, load_pages, texts
from lmstack.rag.catalogue.snapshot import display_path
from lmstack.rag.documents import page_of
from lmstack.rag.filters import Filter
from lmstack.rag.name_forms import holds_together
from lmstack.rag.retrieve.corpus import Corpus
from lmstack.rag.retrieve.dense import Approximate, Ranked, Rows
from lmstack.rag.retrieve.naming import Naming, Reader
from lmstack.rag.words import query_terms

__all__ = [
    "Fusion",
    "Hit",
    "Mode",
    "RowRanking",
    "SearchConfig",
    "check_query",
    "fuse",
    "fuse_covered",
    "fuse_scores",
    "query_vectors",
    "run_search",
]

Mode = Literal["hybrid", "dense", "lexical"]
Fusion = Literal["rrf", "weighted", "covered"]
# The nearest rows by way of a store, for a query's vector and a depth; None where it cannot tell.
Nearest = Callable[[npt.NDArray[np.float32], int], Ranked | None]
Vectors = npt.NDArray[np.float32]
MAX_HITS = 1000
# Of meaning and of words, chosen on half of the questions of two collections (docs/decisions.md).
_WEIGHTS: Mapping[Fusion, tuple[float, float]] = {
    "weighted": (1.0, 0.3),
    "covered": (1.0, 0.1),
    "rrf": (1.5, 1.0),
}
# Evidence of names (in nats) that weighs as much as the highest score by words.
NAMED = 6.0


def _check_choice(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise InputError(
            f"{name} is {shown(value)}", hint=f"one of: {', '.join(known)}", param=name
        )


@dataclass(frozen=True)
class SearchConfig(Config):
    """``depth``: how far down each list fusion looks (at least k). ``rrf_k`` flattens ranks:
    the larger, the less the first places matter. Weights multiply the list's share; None for what
    measured best with the ``fusion``. An embedder whose cosines all lie close together wants
    ``covered`` or ``rrf``: one that says so (`ModelInfo.lexical_weight`) gets ``covered`` where
    the default is not changed. ``approximate``: whether the search by meaning may
    pick its candidates by the signs of the vectors; ``auto`` does above 20,000 passages."""

    depth: int = 100
    fusion: Fusion = "weighted"
    rrf_k: float = 5.0
    dense_weight: float | None = None
    lexical_weight: float | None = None
    approximate: Approximate = "auto"

    def __post_init__(self) -> None:
        _check_choice("fusion", self.fusion, get_args(Fusion))
        _check_choice("approximate", self.approximate, get_args(Approximate))
        check_range("depth", self.depth, 1, 100_000)
        check_range("rrf_k", self.rrf_k, 0, 10_000)
        for name in ("dense_weight", "lexical_weight"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0, 1000)

    def for_embedder(self, info: ModelInfo) -> SearchConfig:
        """These settings, with what they leave to the embedder."""
        chosen = self.fusion != "weighted" or self.lexical_weight is not None
        if chosen or info.lexical_weight is None:
            return self
        return self.replace(fusion="covered", lexical_weight=info.lexical_weight)

    @property
    def weights(self) -> dict[str, float]:
        """Of the lists, by their names."""
        dense, lexical = _WEIGHTS[self.fusion]
        return {
            "dense": dense if self.dense_weight is None else self.dense_weight,
            "lexical": lexical if self.lexical_weight is None else self.lexical_weight,
        }


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage found. ``path`` opens from the current folder; ``text`` is
    ``document.text[start:end]``; ``page`` is None for formats without pages. ``ranks`` says at
    which place meaning (``dense``) and words (``lexical``) had it, None where they had not.
    ``similarity`` is the cosine with the query, None in lexical mode;
    ``relevance`` what a reranker gave it, None for what it did not read. ``named``: evidence from
    names in the query for its document (`naming`); ``names``: the IDF of each of them, below 0 for
    those that the document lacks; ``own_names``: those that it begins with."""

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
    relevance: float | None = None
    named: float = 0.0
    names: Mapping[str, float] = field(default_factory=dict)
    own_names: tuple[str, ...] = ()

    def with_names(self, text: str, besides: str = "") -> str:
        """``text`` of this passage below its `own_names` that neither it nor ``besides`` holds, so
        that a model which reads it alone knows what it is of."""
        known = f"{text}\n{besides}"
        unsaid = [name for name in self.own_names if not holds_together(known, (name,))]
        return f"{' '.join(unsaid)}\n{text}" if unsaid else text

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
    _check_choice("mode", mode, get_args(Mode))
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


def fuse_scores(
    cosines: npt.NDArray[np.floating[Any]],
    words: npt.NDArray[np.floating[Any]],
    weights: Mapping[str, float],
) -> npt.NDArray[np.float64]:
    """The weighted sum of the cosines and of the scores by words of the same passages, the latter
    as shares of the highest."""
    highest = float(words.max(initial=0.0))
    share = words.astype(np.float64) / highest if highest > 0 else np.zeros(len(words))
    return weights["dense"] * cosines.astype(np.float64) + weights["lexical"] * share


def fuse_covered(
    cosines: npt.NDArray[np.floating[Any]],
    words: npt.NDArray[np.floating[Any]],
    most: float,
    weights: Mapping[str, float],
) -> npt.NDArray[np.float64]:
    """The weighted sum of the cosines and of the scores by words as shares of ``most``, what the
    words of the query could give at most (0 if none of them occurs)."""
    share = words.astype(np.float64) / most if most > 0 else np.zeros(len(words))
    return weights["dense"] * cosines.astype(np.float64) + weights["lexical"] * share


@dataclass(frozen=True, slots=True)
class RowRanking:
    """The best rows of a corpus for one query, with their scores; ``lists`` are the rows that
    each stage found, best first; ``cosines`` of ``rows`` with the query, None without one."""

    rows: Rows
    scores: npt.NDArray[np.float64]
    lists: Mapping[str, Rows]
    cosines: npt.NDArray[np.float32] | None
    naming: Naming


def rank_passages(
    corpus: Corpus,
    query: str,
    vector: Vectors | None,
    k: int,
    config: SearchConfig,
    mode: Mode,
    read: Reader,
    *,
    where: Filter | None = None,
    held: frozenset[str] | None = None,
    nearest: Nearest | None = None,
) -> RowRanking:
    """The ``k`` best passages. ``vector`` is that of the query, None in lexical mode; ``held``
    are the caller's labels, None for the owner. ``nearest`` is asked before vectors are scanned.
    ``read`` gives the texts of some rows."""
    # One list alone is not fused: nothing behind its best is looked at.
    depth = max(config.depth, k) if mode == "hybrid" else k
    allowed = corpus.allowed(held, where)
    found: dict[str, Ranked] = {}
    if vector is not None:
        known = nearest(vector, depth) if nearest is not None else None
        found["dense"] = known or corpus.dense.search(vector, depth, allowed, config.approximate)
    if mode != "dense":
        words = corpus.words(held)
        terms = query_terms(query)
        found["lexical"] = words.search(terms, depth, allowed)
    lists = {name: rows for name, (rows, _) in found.items()}
    naming = Naming(corpus, query, held, read)
    if len(found) == 2 and vector is not None and config.fusion != "rrf":
        rows = np.union1d(lists["dense"], lists["lexical"])
        named = naming.singled_out(depth, allowed)
        rows = np.union1d(rows, named)
        both = corpus.dense.cosines(vector, rows), words.scores(terms, rows)
        if config.fusion == "covered":
            total = fuse_covered(*both, words.most(terms), config.weights)
        else:
            total = fuse_scores(*both, config.weights)
        total += config.weights["lexical"] * naming.evidence[corpus.owners[rows]] / NAMED
        order = np.lexsort((corpus.places[rows], -total))
        order = order[_with_named(rows[order], named, corpus.owners, k)]
        rows, scores = rows[order], total[order]
    else:
        # By place, because `fuse` decides between equals by what it is given.
        places = {name: list(map(int, corpus.places[rows])) for name, rows in lists.items()}
        best = fuse(places, config.weights, config.rrf_k)[:k]
        rows = corpus.rows_at([place for place, _ in best])
        scores = np.array([score for _, score in best])
    cosines = None if vector is None else corpus.dense.cosines(vector, rows)
    return RowRanking(rows, scores, lists, cosines, naming)


def _with_named(rows: Rows, named: Rows, owners: Rows, k: int) -> Rows:
    """Which ``k`` of the ranked ``rows`` to keep, ascending: the first, and up to half are the
    best of each document of those ``named``, then others of these."""
    best = np.zeros(len(rows), np.bool_)
    best[np.unique(owners[rows], return_index=True)[1]] = True
    is_named = np.isin(rows, named)
    wanted = np.lexsort((~best, ~is_named))[: min(k // 2, int(is_named.sum()))]
    later = np.ones(len(rows), np.bool_)
    later[wanted] = False
    kept: Rows = np.sort(np.argsort(later, kind="stable")[:k])
    return kept


def run_search(
    connection: sa.Connection,
    corpus: Corpus,
    queries: Sequence[str],
    vectors: Vectors | None,
    k: int,
    config: SearchConfig,
    mode: Mode,
    *,
    where: Filter | None = None,
    held: frozenset[str] | None = None,
    nearest: Nearest | None = None,
) -> list[list[Hit]]:
    """Search for several queries within the snapshot of ``connection``, whose state ``corpus``
    is. ``vectors`` (Q, D) are those of the queries, None in lexical mode."""
    return [
        _hits(
            connection,
            corpus,
            rank_passages(
                corpus,
                query,
                None if vectors is None else vectors[n],
                k,
                config,
                mode,
                partial(_read, connection, corpus),
                where=where,
                held=held,
                nearest=nearest,
            ),
        )
        for n, query in enumerate(queries)
    ]


def _read(connection: sa.Connection, corpus: Corpus, rows: Rows) -> list[str]:
    """The texts of ``rows`` below their headings; empty for one that is gone."""
    ids = [int(corpus.chunk_ids[row]) for row in rows]
    texts = {
        row.id: f"{row.prefix}\n{row.text}" for row in connection.execute(_TEXTS, {"ids": ids})
    }
    return [texts.get(number, "") for number in ids]


def _hits(connection: sa.Connection, corpus: Corpus, found: RowRanking) -> list[Hit]:
    ids = [int(corpus.chunk_ids[row]) for row in found.rows]
    places = {
        name: {int(row): n for n, row in enumerate(rows, 1)} for name, rows in found.lists.items()
    }
    passages = {row.id: row for row in connection.execute(_PASSAGES, {"ids": ids})}
    return [
        Hit(
            rank=n + 1,
            score=float(found.scores[n]),
            path=display_path(str(corpus.facts[row.document_id].fields["path"])),
            start=row.start,
            end=row.end,
            text=row.text,
            page=page_of(load_pages(row.pages), row.start),
            ranks={
                name: places.get(name, {}).get(int(found.rows[n])) for name in ("dense", "lexical")
            },
            chunk_id=item,
            document_id=row.document_id,
            title=row.title,
            section=tuple(json.loads(row.section)),
            prefix=row.prefix,
            similarity=None if found.cosines is None else float(found.cosines[n]),
            named=float(found.naming.evidence[corpus.owners[found.rows[n]]]),
            names=found.naming.of(int(found.rows[n])),
            own_names=found.naming.own(int(found.rows[n])),
        )
        for n, item in enumerate(ids)
        for row in (passages[item],)
    ]


# Made once: building a query takes longer than SQLite takes to answer it.
_PASSAGES = (
    sa.select(
        chunks.c.id,
        chunks.c.document_id,
        chunks.c.start,
        chunks.c.end,
        chunks.c.text,
        chunks.c.section,
        chunks.c.prefix,
        documents.c.title,
        texts.c.pages,
    )
    .join_from(chunks, documents, chunks.c.document_id == documents.c.id)
    .join(texts, texts.c.document_id == documents.c.id)
    .where(chunks.c.id.in_(sa.bindparam("ids", expanding=True)))
)
_TEXTS = sa.select(chunks.c.id, chunks.c.prefix, chunks.c.text).where(
    chunks.c.id.in_(sa.bindparam("ids", expanding=True))
)


def query_vectors(embedder: Embedder, queries: Sequence[str]) -> Vectors:
    """The unit vectors (Q, D) of queries."""
    return np.asarray(embedder.embed(list(queries), "query"), np.float32)
