"""Ranking by meaning: cosine similarity with every vector, or with those that signs pick.

Up to about 20,000 rows in play every vector is compared. Above, the signs of the dimensions
pick candidates, which are then compared exactly; a filter that leaves few rows brings
the full comparison back. Scores are the same to the last bit whichever way a row was found and
wherever it stands: the scan of a matrix rounds differently from row to row, so what it finds is
computed once more, each row by itself. Covers one state of the index; embedders give unit
vectors, so that a product is a cosine.

A code has one bit a dimension, its sign: the angle between two vectors shows in how many of their
signs differ (Charikar 2002). A code depends on its vector alone, so hidden documents change
nothing. Codes are kept column by column, 64 dimensions a word, so that counting runs through
memory once.

Rows of a search are numbered in the order in which the index came to hold them; ``places`` says
where each stands among all in the order of paths and of passages. Equal scores go by place, so
that an index which grew and one made afresh rank alike.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = [
    "EXACT_ROWS",
    "Approximate",
    "Codes",
    "Dense",
    "DenseSegment",
    "Mask",
    "Places",
    "Ranked",
    "Rows",
    "Scores",
    "best_rows",
    "distances",
    "nearest_codes",
    "sign_codes",
]

Mask = npt.NDArray[np.bool_]
Places = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Ranked = tuple[Rows, Scores]


def best_rows(rows: Rows, scores: Scores, depth: int, places: Places) -> Ranked:
    """The ``depth`` best ``rows`` and their scores, best first; ``scores[i]`` is that of
    ``rows[i]``, ``places[row]`` decides between equals."""
    if len(rows) > depth:
        cut = np.partition(scores, len(scores) - depth)[len(scores) - depth]
        kept = scores >= cut
        rows, scores = rows[kept], scores[kept]
    order = np.lexsort((places[rows], -scores))[:depth]
    return rows[order], scores[order]


Codes = npt.NDArray[np.uint64]
# Rows at a time: what is counted stays in the processor's own caches.
_BLOCK = 32_768


def sign_codes(vectors: npt.NDArray[np.float32]) -> Codes:
    """(W, N) words for (N, D) vectors, W = D / 64 rounded up."""
    words = -(-vectors.shape[1] // 64)
    codes = np.empty((words, len(vectors)), np.uint64)
    for start in range(0, len(vectors), _BLOCK):
        bits = np.packbits(vectors[start : start + _BLOCK] > 0, axis=1)
        whole = np.zeros((len(bits), 8 * words), np.uint8)
        whole[:, : bits.shape[1]] = bits
        codes[:, start : start + _BLOCK] = whole.view(np.uint64).T
    return codes


def distances(codes: Codes, query: Codes) -> npt.NDArray[np.uint16]:
    """In how many signs each of N codes differs from ``query`` (W, 1)."""
    total = np.zeros(codes.shape[1], np.uint16)
    other = np.empty(_BLOCK, np.uint64)
    count = np.empty(_BLOCK, np.uint8)
    for start in range(0, codes.shape[1], _BLOCK):
        block = total[start : start + _BLOCK]
        size = len(block)
        for column, word in zip(codes, query[:, 0], strict=True):
            np.bitwise_xor(column[start : start + size], word, out=other[:size])
            np.bitwise_count(other[:size], out=count[:size])
            block += count[:size]
    return total


def nearest_codes(
    found: npt.NDArray[np.uint16], count: int, allowed: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.int64]:
    """The rows of the ``count`` smallest `distances` among the ``allowed``, ascending, with all
    that are as far as the last: which rows come out does not depend on their order."""
    seen = found if allowed is None else found[allowed]
    last = np.partition(seen, count - 1)[count - 1] if count < len(seen) else found.max(initial=0)
    close = found <= last
    return np.flatnonzero(close if allowed is None else close & allowed)


Approximate = Literal["auto", "never", "always"]
Vectors = npt.NDArray[np.float32]
EXACT_ROWS = 20_000
# How many candidates signs pick: the most of these (docs/decisions.md has what they find).
MIN_CANDIDATES = 1000
CANDIDATES_A_RESULT = 10
ROWS_A_CANDIDATE = 64
_QUERIES = 64


class DenseSegment:
    """Vectors (N, D) of rows that follow one another, and their codes once they are needed."""

    def __init__(self, vectors: Vectors) -> None:
        self.vectors = vectors
        self._codes: Codes | None = None
        self._lock = threading.Lock()

    @property
    def codes(self) -> Codes:
        with self._lock:
            if self._codes is None:
                self._codes = sign_codes(self.vectors)
            return self._codes


class Dense:
    """The vectors of one state of the index. Thread-safe. ``places``: see `best_rows`."""

    def __init__(self, segments: Sequence[DenseSegment], places: Places) -> None:
        self._segments = segments
        self._places = places
        self.size = sum(len(segment.vectors) for segment in segments)

    def search(
        self,
        query: Vectors,
        depth: int,
        allowed: Mask | None = None,
        approximate: Approximate = "auto",
    ) -> Ranked:
        """The ``depth`` nearest of the ``allowed`` rows to ``query`` (D,), and their cosines."""
        return next(self.search_many(query[None], depth, allowed, approximate))

    def search_many(
        self,
        queries: Vectors,
        depth: int,
        allowed: Mask | None = None,
        approximate: Approximate = "auto",
    ) -> Iterator[Ranked]:
        """`search` for each of ``queries`` (Q, D)."""
        in_play = self.size if allowed is None else int(np.count_nonzero(allowed))
        candidates = max(MIN_CANDIDATES, CANDIDATES_A_RESULT * depth, in_play // ROWS_A_CANDIDATE)
        signs = approximate == "always" or (approximate == "auto" and in_play > EXACT_ROWS)
        if signs and in_play > candidates:
            for query in queries:
                yield self._rank(query, self._picked(query, candidates, allowed), depth)
        else:
            for query, rows in self._scanned(queries, depth, allowed, in_play):
                yield self._rank(query, rows, depth)

    def cosines(self, query: Vectors, rows: Rows) -> Scores:
        """Each row by itself: its cosine does not depend on what stands beside it."""
        found: Scores = np.einsum("ij,j->i", self.rows(rows), query)
        return found

    def rows(self, rows: Rows) -> Vectors:
        """The vectors of some rows, in their order."""
        if len(self._segments) == 1:
            return self._segments[0].vectors[rows]
        first = 0
        found = np.empty((len(rows), self._dimensions), np.float32)
        for segment in self._segments:
            here = (rows >= first) & (rows < first + len(segment.vectors))
            found[here] = segment.vectors[rows[here] - first]
            first += len(segment.vectors)
        return found

    @property
    def _dimensions(self) -> int:
        return self._segments[0].vectors.shape[1] if self._segments else 0

    def _rank(self, query: Vectors, rows: Rows, depth: int) -> Ranked:
        return best_rows(rows, self.cosines(query, rows), depth, self._places)

    def _picked(self, query: Vectors, candidates: int, allowed: Mask | None) -> Rows:
        code = sign_codes(query[None])
        parts = [distances(segment.codes, code) for segment in self._segments]
        found = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return nearest_codes(found, candidates, allowed)

    def _scanned(
        self, queries: Vectors, depth: int, allowed: Mask | None, in_play: int
    ) -> Iterator[tuple[Vectors, Rows]]:
        """With each query the rows that may be among its best by a scan's rounded scores."""
        rows = None if allowed is None else np.flatnonzero(allowed)
        few = rows is not None and 4 * in_play < self.size
        matrices = [self.rows(rows)] if few else [s.vectors for s in self._segments]  # type: ignore[arg-type]
        for start in range(0, len(queries), _QUERIES):
            block = queries[start : start + _QUERIES]
            scores = np.concatenate([block @ m.T for m in matrices], axis=1) if matrices else None
            for n, query in enumerate(block):
                ours = np.zeros(0, np.float32) if scores is None else scores[n]
                if rows is not None and not few:
                    ours = ours[rows]
                kept = _close_to_best(ours, depth, query.size)
                yield query, kept if rows is None else rows[kept]


def _close_to_best(scores: Scores, depth: int, dimensions: int) -> Rows:
    """Which of ``scores`` may be among the best ``depth`` before rounding."""
    if len(scores) <= depth:
        return np.arange(len(scores))
    cut = np.partition(scores, len(scores) - depth)[len(scores) - depth]
    # Twice the bound for a sum of so many products of unit vectors (Higham 2002, 3.1), and some.
    slack = 2.1 * dimensions * 2.0**-24
    return np.flatnonzero(scores >= cut - slack)
