"""Ranking by words: exact BM25 over the postings of many documents, held in memory.

    score(q, d) = sum over terms t of q:  idf(t) * f / (f + k1 * (1 - b + b * |d| / mean |d|))
    idf(t) = ln(1 + (N - n + 0.5) / (n + 0.5))

the form of Lucene, which is never negative. Words of the headings count as words of the text.
N, n and the mean are those of the rows that the caller may see and of no others,
so that a score says nothing about a hidden document, and equals to the last bit that of an index
without it. A filter on top only chooses among the rows.

Every list of a query's terms is added up whole, since that costs about a nanosecond an entry;
looking for shortcuts (MaxScore) took longer at every size (docs/decisions.md). A term of every
fourth row and more is kept as a column over all rows. Covers one state of the index.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.rag.retrieve.dense import (
    Mask,
    Places,
    Ranked,
    Rows,
    Scores,
    best_rows,
)
from lmstack.rag.words import MAX_TERMS, Postings, word_terms

__all__ = ["Bm25", "merge_postings", "without_rows"]

# Rows that `leading_rows` takes together.
GROUP = 64

# Chosen on half of the questions of two collections (docs/decisions.md).
K1 = 0.9
B = 0.6
_KEPT_BYTES = 96 << 20
# Of a term besides its arrays: those that no row holds are kept too.
_TERM_BYTES = 500
# A term that more than one row in so many holds is kept as a column.
_COLUMN_SHARE = 4


def merge_postings(parts: Sequence[Postings]) -> Postings:
    """One for all ``parts``, whose chunks follow one another."""
    sizes = [len(part.lengths) for part in parts]
    first = np.cumsum([0, *sizes])[:-1].astype(np.uint32)
    entries = [len(part.rows) for part in parts]
    counts = _joined([part.counts for part in parts], np.uint32)
    rows = _joined([part.rows for part in parts], np.uint32) + np.repeat(first, entries)
    # The entries of one term in one part are a run. Runs are put in the order of terms and,
    # within a term, of parts, so that rows ascend.
    every = _joined([part.hashes for part in parts], np.uint64)
    order = np.argsort(every, kind="stable")
    ordered = every[order]
    new = np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]
    longs = counts.astype(np.int64)
    starts = (np.cumsum(longs) - longs)[order]
    longs = longs[order]
    shift = starts - (np.cumsum(longs) - longs)
    take = np.arange(len(rows)) + np.repeat(shift, longs)
    return Postings(
        ordered[new],
        np.add.reduceat(longs, np.flatnonzero(new)).astype(np.uint32) if len(new) else counts,
        rows[take],
        _joined([part.frequencies for part in parts], np.uint16)[take],
        _joined([part.lengths for part in parts], np.uint32),
    )


def _joined(parts: Sequence[npt.NDArray[Any]], kind: type) -> npt.NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts], dtype=kind)


def without_rows(postings: Postings, kept: Mask) -> Postings:
    """The postings of the rows that are ``kept``, numbered anew."""
    number = (np.cumsum(kept) - 1).astype(np.uint32)
    stays = kept[postings.rows]
    ends = np.cumsum(postings.counts.astype(np.int64))
    before = np.append(0, np.cumsum(stays))
    counts = before[ends] - before[ends - postings.counts]
    held = counts > 0
    return Postings(
        postings.hashes[held],
        counts[held].astype(np.uint32),
        number[postings.rows[stays]],
        postings.frequencies[stays],
        postings.lengths[kept],
    )


class _Segment:
    """Postings whose first row is the row ``first`` of the whole."""

    def __init__(self, first: int, postings: Postings) -> None:
        self.first = first
        self.postings = postings
        self._ends = np.cumsum(postings.counts.astype(np.int64))

    def find(self, term: int) -> tuple[Rows, npt.NDArray[np.uint16]] | None:
        """The rows that hold a term, ascending, and how often each does."""
        hashes = self.postings.hashes
        at = int(np.searchsorted(hashes, np.uint64(term)))
        if at == len(hashes) or hashes[at] != term:
            return None
        where = slice(int(self._ends[at]) - int(self.postings.counts[at]), int(self._ends[at]))
        rows = self.postings.rows[where].astype(np.int64) + self.first
        return rows, self.postings.frequencies[where]


@dataclass(frozen=True, slots=True)
class _Term:
    """A term among the visible rows: it occurs in ``count`` of them, the ``rows``, and adds
    ``scores`` there; without ``rows``, ``scores`` has an entry for every row, 0 for most."""

    count: int
    rows: Rows | None
    scores: Scores

    @property
    def nbytes(self) -> int:
        return _TERM_BYTES + self.scores.nbytes + (0 if self.rows is None else self.rows.nbytes)

    @property
    def holding(self) -> Rows:
        return self.scores.nonzero()[0] if self.rows is None else self.rows

    def add_to(self, total: Scores) -> None:
        """Add what the term adds to all rows."""
        if self.rows is None:
            np.add(total, self.scores, out=total)
        else:
            np.add.at(total, self.rows, self.scores)

    def look_up(self, rows: Rows, scores: Scores) -> None:
        """Add what the term adds to the ``scores`` of ``rows``, in any order."""
        if self.rows is None:
            scores += self.scores[rows]
            return
        at = self.rows.searchsorted(rows)
        at[at == len(self.rows)] = 0
        holds = self.rows[at] == rows
        scores[holds] += self.scores[at[holds]]


class Bm25:
    """The ranking of one state of the index for those who see the rows of ``visible`` (None:
    all). ``parts`` follow one another. Thread-safe. Terms are prepared when first asked for,
    and kept up to 96 MiB."""

    def __init__(
        self,
        parts: Sequence[Postings],
        places: Places,
        visible: Mask | None = None,
        *,
        k1: float = K1,
        b: float = B,
    ) -> None:
        firsts = np.cumsum([0, *(len(part.lengths) for part in parts)])
        self._segments = [_Segment(int(f), p) for f, p in zip(firsts, parts, strict=False)]
        self._places = places
        self._visible = visible
        lengths = _joined([part.lengths for part in parts], np.uint32)
        seen = lengths if visible is None else lengths[visible]
        self.count = len(seen)
        # A sum of whole numbers, the same in whatever order the documents came.
        mean = int(seen.sum(dtype=np.int64)) / max(self.count, 1)
        norms = k1 * (1 - b + b * lengths.astype(np.float64) / (mean or 1.0))
        self._norms = norms.astype(np.float32)
        self._room = -(-len(norms) // GROUP) * GROUP
        self._lock = threading.Lock()
        self._kept: dict[int, _Term] = {}
        self._kept_bytes = 0

    def weights(self, words: Sequence[str]) -> dict[str, float]:
        """The IDF of each word: `weight` of the rows that hold it."""
        return {word: self.weight(len(self.holding(word))) for word in words[:MAX_TERMS]}

    def weight(self, count: int) -> float:
        """How telling it is that a row is one of ``count``, of N visible ones:
        ln((N + 1) / (count + 0.5))."""
        return math.log((self.count + 1) / (count + 0.5))

    def holding(self, word: str) -> Rows:
        """The rows that hold all terms of a word."""
        lists = sorted((self._term(term).holding for term in word_terms(word)), key=len)
        held = lists[0] if lists else np.zeros(0, np.int64)
        for other in lists[1:]:
            held = np.intersect1d(held, other, assume_unique=True)
        return held

    def search(self, terms: Sequence[int], depth: int, allowed: Mask | None = None) -> Ranked:
        """The best ``depth`` rows of those ``allowed`` that hold any of ``terms``, best first,
        equal scores by place; and their scores."""
        total = np.zeros(self._room, np.float32)
        for term in self._ranked(terms):
            term.add_to(total)
        if allowed is not None:
            total[: len(allowed)] *= allowed
        rows = leading_rows(total, depth)
        return best_rows(rows, total[rows], depth, self._places)

    def scores(self, terms: Sequence[int], rows: Rows) -> Scores:
        """The scores of some rows, 0 for one that holds none of ``terms``."""
        total = np.zeros(len(rows), np.float32)
        for term in self._ranked(terms):
            term.look_up(rows, total)
        return total

    def most(self, terms: Sequence[int]) -> float:
        """What no score of ``terms`` reaches: the sum of their idf, 0 if none of them occurs. One
        that does not occur counts too: of a question in another language than the passages' few
        words do, by chance or as names, and a passage with those few covers little of it."""
        counts = [self._term(term).count for term in terms]
        return sum(map(self._idf, counts)) if any(counts) else 0.0

    def _idf(self, count: int) -> float:
        """Of a term that ``count`` rows hold."""
        return float(np.float32(np.log1p((self.count - count + 0.5) / (count + 0.5))))

    def _ranked(self, terms: Sequence[int]) -> list[_Term]:
        """Terms that occur, from the rarest on, equals by hash: the order in which scores are
        added up, so that equal rows have equal scores."""
        found = [(found.count, term, found) for term in terms if (found := self._term(term))]
        return [found for count, _, found in sorted(found) if count]

    def _term(self, term: int) -> _Term:
        found = self._kept.get(term)
        if found is None:
            found = self._prepare(term)
            with self._lock:
                self._kept_bytes += found.nbytes
                if self._kept_bytes > _KEPT_BYTES:
                    self._kept.clear()
                    self._kept_bytes = found.nbytes
                self._kept[term] = found
        return found

    def _prepare(self, term: int) -> _Term:
        found = [part for segment in self._segments if (part := segment.find(term))]
        rows = found[0][0] if len(found) == 1 else _joined([part[0] for part in found], np.int64)
        frequencies = _joined([part[1] for part in found], np.float32)
        if self._visible is not None:
            seen = self._visible[rows]
            rows, frequencies = rows[seen], frequencies[seen]
        idf = np.float32(self._idf(len(rows)))
        scores = (idf * (frequencies / (frequencies + self._norms[rows]))).astype(np.float32)
        if _COLUMN_SHARE * len(rows) <= self._room:
            return _Term(len(rows), rows, scores)
        column = np.zeros(self._room, np.float32)
        column[rows] = scores
        return _Term(len(rows), None, column)


def leading_rows(scores: Scores, depth: int) -> Rows:
    """Rows among which the ``depth`` best are, with all that equal the last of them, by
    ``scores`` of all rows, none below 0, as many as `GROUP` divides; a row with 0 is not one.

    The best of each group is found in one pass; the ``depth``-th best of these is a bar that so
    many rows reach, and only groups that reach it are looked into.
    """
    lines = scores.reshape(GROUP, -1)
    groups = lines.shape[1]
    if 0 < 2 * depth <= groups:
        best = np.maximum.reduce(lines, axis=0)
        bar = np.partition(best, groups - depth)[groups - depth]
        if bar > 0:
            reach = (best >= bar).nonzero()[0]
            at = (lines.take(reach, axis=1) >= bar).ravel().nonzero()[0]
            line, group = np.divmod(at, len(reach))
            leading: Rows = line * groups + reach[group]
            return leading
    return scores.nonzero()[0]
