"""Which documents the names and numbers of a query single out.

Among documents that look alike one is meant by its number, its date or somebody's name. A passage
need not repeat what its document says once, so a name counts for all passages of a document of
which one holds it. What n of N documents hold is evidence for each of them of

    ln(N / n) / n^2

in nats: one of thousands that has the number is meant, and what ten have chooses none of them. All
names of a query together count as one more.
(Names that many hold made rankings of questions in whole sentences worse: docs/decisions.md.)

Names are told by how they are written: with a digit, or with a capital within the sentence. Of a
query without capitals only numbers are names.
"""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import numpy.typing as npt

from lmstack.rag.names import name_groups, spellings
from lmstack.rag.retrieve.corpus import Corpus
from lmstack.rag.retrieve.dense import Mask, Rows

__all__ = ["Naming"]


class Naming:
    """The names in ``query`` beside the documents of ``corpus`` that a caller with the labels
    ``held`` may see. ``evidence[n]``: how much of it there is for the document at place ``n``."""

    def __init__(self, corpus: Corpus, query: str, held: frozenset[str] | None) -> None:
        self._corpus = corpus
        self._words = corpus.words(held)
        self._known: dict[str, tuple[Rows, Mask, float]] = {}
        self.evidence: npt.NDArray[np.float64] = np.zeros(len(corpus.document_ids))
        self._begins: list[tuple[tuple[str, ...], Mask]] = []
        groups = name_groups(query)
        seen = corpus.num_visible(held) if groups else 0
        held_by: list[Mask] = []
        for group in groups:
            rows = self._rows(group[0])
            for name in group[1:]:
                rows = np.intersect1d(rows, self._rows(name), assume_unique=True)
            self._begins.append((group, self._owners(rows[corpus.begins[rows]])))
            held_by.append(self._owners(rows))
        there = [holds for holds in held_by if holds.any()]
        if len(there) > 1:
            there.append(np.logical_and.reduce(there))
        for holds in there:
            count = int(np.count_nonzero(holds))
            if count:
                self.evidence[holds] += math.log(seen / count) / count**2

    def _rows(self, name: str) -> Rows:
        """The passages that hold ``name``."""
        if name not in self._known:
            rows = reduce(
                np.union1d,
                [
                    reduce(np.intersect1d, map(self._words.holding, words))
                    for words in spellings(name)
                ],
            )
            self._known[name] = rows, self._owners(rows), self._words.weight(len(rows))
        return self._known[name][0]

    def _owners(self, rows: Rows) -> Mask:
        """The documents of ``rows``."""
        found = np.zeros(len(self.evidence), np.bool_)
        found[self._corpus.owners[rows]] = True
        return found

    def singled_out(self, most: int, allowed: Mask | None) -> Rows:
        """The rows of the documents for which there is most evidence, if they are no more than
        ``most``; else of those among them that begin with all names, under the same condition."""
        if not self.evidence.any():
            return np.zeros(0, np.int64)
        evidence = self.evidence[self._corpus.owners]
        if allowed is not None:
            evidence = evidence * allowed
        rows = np.flatnonzero((evidence > 0) & (evidence == evidence.max(initial=0)))
        if len(rows) > most:
            begins = np.logical_and.reduce([begins for _, begins in self._begins])
            rows = rows[begins[self._corpus.owners[rows]]]
        return rows if len(rows) <= most else rows[:0]

    def of(self, row: int) -> dict[str, float]:
        """The names, each with its IDF among the passages, below 0 where the document of ``row``
        lacks it."""
        owner = self._corpus.owners[row]
        return {
            name: weight if holds[owner] else -weight
            for name, (_, holds, weight) in self._known.items()
        }

    def own(self, row: int) -> tuple[str, ...]:
        """The names that the document of ``row`` begins with, in its first passage: they are its
        own, where those of a row further down are that row's."""
        owner = self._corpus.owners[row]
        return tuple(name for group, begins in self._begins if begins[owner] for name in group)
