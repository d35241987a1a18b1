"""How far a passage bears a sentence out: a score between 0 and 1, pluggable.

The default looks at the words and the vectors, and is strict about what inventions mostly change:
numbers, names, and whether something is denied. What it cannot see is in docs/asking.md.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from lmstack.core import Embedder
from lmstack.rag.answer.function_words import NEGATIONS, clauses, numerals
from lmstack.rag.lexical import STOP_WORDS, content_words
from lmstack.rag.words import covered_share, number_words

__all__ = ["OverlapSupport", "SupportScorer"]

_INVENTED = 0.2
_WORD = re.compile(r"[^\W\d_][\w'’-]*")


class SupportScorer(Protocol):
    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        """Support of each claim by each piece of evidence, shape (claims, evidence)."""
        ...


class OverlapSupport:
    """The mean of the cosine and of the share of the claim's words found; 1 for a quotation.

    At most 0.2 where the claim has a number or a name that the evidence has not, another subject
    as its first word, or where it affirms what the evidence denies or denies what it affirms."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        if not claims or not evidence:
            return [[] for _ in claims]
        vectors = np.asarray(self._embedder.embed([*claims, *evidence], "passage"))
        cosines = vectors[: len(claims)] @ vectors[len(claims) :].T
        names = _names(evidence)
        return [
            [_support(claim, text, float(cosines[i, j]), names) for j, text in enumerate(evidence)]
            for i, claim in enumerate(claims)
        ]


def _support(claim: str, evidence: str, cosine: float, names: Collection[str]) -> float:
    if _contradicts(claim, evidence):
        return _INVENTED
    flat = " ".join(claim.split())
    if flat and flat in " ".join(evidence.split()):
        return 1.0
    words = dict.fromkeys(content_words(claim), 1.0)
    score = min(0.5 * max(cosine, 0.0) + 0.5 * covered_share(words, evidence), 1.0)
    if not _numbers(claim) <= _numbers(evidence) or _invents_name(claim, evidence, names):
        return min(score, _INVENTED)
    return score


def _numbers(text: str) -> set[str]:
    return number_words(text) | numerals(text)


def _names(texts: Sequence[str]) -> set[str]:
    """Words that have a capital within a sentence somewhere, and none nowhere."""
    words = [word for text in texts for word in _WORD.findall(text)[1:]]
    plain = {word for text in texts for word in _WORD.findall(text) if word.islower()}
    return {word.casefold() for word in words if word[0].isupper()} - plain


def _invents_name(claim: str, evidence: str, names: Collection[str]) -> bool:
    """Whether ``claim`` holds a name that ``evidence`` does not. A sentence's first word has a
    capital in any case: it counts if it is one of ``names``, or if it stands where the evidence
    has a word that the claim does not know."""
    known, said = ([w.casefold() for w in _WORD.findall(text)] for text in (evidence, claim))
    words = _WORD.findall(claim)
    if any(w[0].isupper() and w.casefold() not in known for w in words[1:]):
        return True
    if not said or not known or _is_said(said[0], evidence):
        return False
    return said[0] in names or (said[0] not in STOP_WORDS and not _is_said(known[0], claim))


def _is_said(word: str, text: str) -> bool:
    return word in STOP_WORDS or covered_share({word: 1.0}, text) > 0


def _contradicts(claim: str, evidence: str) -> bool:
    """Whether what a clause of ``claim`` says stands in clauses of ``evidence`` that deny it, or
    affirm it where the claim denies: no more than half of its words would be left."""
    told = list(clauses(evidence))
    for clause, negated in clauses(claim):
        words = {word: 1.0 for word in content_words(clause) if word not in NEGATIONS}
        alike = " ".join(text for text, denied in told if denied == negated)
        found = covered_share(words, evidence)
        if found and covered_share(words, alike) <= 0.5 * found:
            return True
    return False
