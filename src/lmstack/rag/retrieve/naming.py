"""Which documents the names and numbers of a query single out.

Among documents that look alike one is meant by its number, its date or somebody's name. A passage
need not repeat what its document says once, so a name counts for all passages of a document of
which one holds it. What n of N documents hold is evidence for each of them of

    ln(N / n) / n^2

in nats: one of thousands that has the number is meant, and what ten have chooses none of them. All
names of a query together count as one more.
(Names that many hold made rankings of questions in whole sentences worse: docs/decisions.md.)

Names are told by how they are written: with a digit, or with a capital within the sentence; in a
query without capitals by how the documents write them.

A number may stand in other pieces in a text than in the query ("DN 204 817", DN204817). Passages
that hold the pieces are looked up, and their texts say whether they join up (`name_forms`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from itertools import accumulate, islice

import numpy as np
import numpy.typing as npt

from lmstack.rag.dates import is_date
from lmstack.rag.name_forms import has_initial, holds_together, joined, says_enough, spellings
from lmstack.rag.names import name_groups
from lmstack.rag.retrieve.corpus import Corpus
from lmstack.rag.retrieve.dense import Mask, Rows
from lmstack.rag.transliteration import pattern_of_word, transliterations
from lmstack.rag.words import STOP_WORDS, fold, tokens_in

__all__ = ["Naming", "Reader"]

Reader = Callable[[Rows], list[str]]
# Passages of a name whose texts are read.
READ = 128
# Signs of an identifier by which it is looked for in pieces.
LONGEST, PIECES = 24, 6
# Of words without a capital: how many of a query are looked at, the share of the passages that hold
# a name, and how many are read.
WORDS = 256
SHARE = 0.1
SAMPLE = 8

_GOES_ON = re.compile("[a-z,] ")


def _evidence(holds: Mask, seen: int) -> npt.NDArray[np.float64]:
    """What it says for each document that it is one of those that ``holds``, of all ``seen``."""
    count = max(1, int(np.count_nonzero(holds)))
    told: npt.NDArray[np.float64] = np.where(
        holds, math.log(max(seen, count) / count) / count**2, 0.0
    )
    return told


def _may_part(text: str, place: int) -> bool:
    """Whether a letter stands on each side of ``place``, or two digits."""
    around = text[max(0, place - 2) : place + 2]
    return (len(around) == 4 and around.isdigit()) or text[place - 1 : place + 1].isalpha()


class Naming:
    """The names in ``query`` beside the documents of ``corpus`` that a caller with the labels
    ``held`` may see. ``evidence[n]``: how much of it there is for the document at place ``n``.
    ``read`` gives the texts of some rows."""

    def __init__(
        self, corpus: Corpus, query: str, held: frozenset[str] | None, read: Reader
    ) -> None:
        self._corpus = corpus
        self._words = corpus.words(held)
        self._read = read
        self._known: dict[str, tuple[Rows, Mask, float]] = {}
        self.evidence: npt.NDArray[np.float64] = np.zeros(len(corpus.document_ids))
        self._begins: list[tuple[tuple[str, ...], Mask]] = []
        known = self._written_with_capital(query)
        groups = [self._told(group, query) for group in name_groups(query, known)]
        seen = corpus.num_visible(held) if groups else 0
        held_by: list[Mask] = []
        for group in groups:
            rows = self._rows_of(group)
            begins = self._owners(rows[corpus.begins[rows]])
            self._begins.append((group, begins))
            held_by.append(self._owners(rows))
            self.evidence += _evidence(held_by[-1], seen)
        told = {name for group in groups for name in group}
        self._known = {name: known for name, known in self._known.items() if name in told}
        there = [holds for holds in held_by if holds.any()]
        if len(there) > 1:
            self.evidence += _evidence(np.logical_and.reduce(there), seen)

    def _rows_of(self, group: Sequence[str]) -> Rows:
        """The passages that hold the ``group``, as far as their texts are read."""
        rows = reduce(np.intersect1d, map(self._rows, group))
        return self._confirmed(rows, group) if len(group) > 1 else rows

    def _told(self, group: tuple[str, ...], query: str) -> tuple[str, ...]:
        """``group`` without a word before an identifier that no passage has beside it: "SOP
        LAB-093" where the page says "Standard operating procedure", "Note DN-204817". It has to
        be an abbreviation or the first word, and what it stands before to say enough."""
        word, *others = group
        is_noun = word.isalpha() and (word.isupper() or fold(query).lstrip().startswith(word))
        if not others or not is_noun or not says_enough(others[0]) or len(self._rows_of(group)):
            return group
        return tuple(others) if len(self._rows_of(others)) else group

    def _confirmed(self, rows: Rows, group: Sequence[str]) -> Rows:
        """Those of ``rows`` whose texts hold ``group``; all where there are too many to read, or
        where it has no day, no initial and no identifier that says enough: what is confirmed is
        rarer, and a short number says less than that."""
        telling = any(is_date(n) or says_enough(n) or has_initial(n) for n in group)
        return self._holding(rows, group) if len(rows) <= READ and telling else rows

    def _holding(self, rows: Rows, group: Sequence[str]) -> Rows:
        """Those of ``rows`` whose texts hold ``group``."""
        if not len(rows):
            return rows
        return rows[[holds_together(text, group) for text in self._read(rows)]]

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
            rows = self._confirmed(rows, (name,))
            for runs in joined(name):
                for pieces in self._in_pieces(runs):
                    if len(pieces) <= READ:
                        rows = np.union1d(rows, self._holding(pieces, (name,)))
            self._known[name] = rows, self._owners(rows), self._words.weight(len(rows))
        return self._known[name][0]

    def _in_pieces(self, runs: Sequence[str]) -> Iterator[Rows]:
        """The passages with words that are ``runs`` when they are put together, wherever they
        stand: of a text that writes "204 817", those with 204 and 817 for "204817". First those
        with fewest words."""
        text = "".join(runs)[:LONGEST]
        ends = {*accumulate(map(len, runs)), len(text)}
        cuts = [n for n in range(1, len(text) + 1) if n in ends or _may_part(text, n)]
        reached: dict[int, Rows | None] = {0: None}
        for _ in range(PIECES):
            further: dict[int, Rows | None] = {}
            for start, held in reached.items():
                for end in cuts:
                    if end <= start:
                        continue
                    rows = self._words.holding(text[start:end])
                    if held is not None:
                        rows = np.intersect1d(held, rows, assume_unique=True)
                    known = further.get(end)
                    if len(rows):
                        further[end] = rows if known is None else np.union1d(known, rows)
            last = further.pop(len(text), None)
            if last is not None:
                yield last
            reached = further

    def _written_with_capital(self, query: str) -> frozenset[str]:
        """The words of a ``query`` without capitals that are names in the documents: rare ones
        that are always written with a capital, also within a sentence."""
        found = [match.group() for match in tokens_in(fold(query))]
        if any(any(map(str.isupper, token)) for token in found):
            return frozenset()
        words = dict.fromkeys(token for token in found if token.isalpha() and len(token) > 2)
        return frozenset(filter(self._is_name, islice(words, WORDS)))

    def _is_name(self, word: str) -> bool:
        if word in STOP_WORDS:
            return False
        rows = reduce(np.union1d, map(self._words.holding, transliterations(word)))
        if not 0 < len(rows) <= len(self._corpus.owners) * SHARE:
            return False
        text = "\n".join(fold(text) for text in self._read(rows[:: max(1, len(rows) // SAMPLE)]))
        pattern = rf"(?<!\w)(?:{pattern_of_word(word)})(?!\w)"
        found = list(re.finditer(pattern, text, re.IGNORECASE))
        within = any(_GOES_ON.fullmatch(text[: each.start()][-2:]) for each in found)
        return within and all(each.group()[0].isupper() for each in found)

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
