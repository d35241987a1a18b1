"""How far a passage bears a sentence out: a score between 0 and 1, pluggable.

The default looks at the words and the vectors, and is strict about numbers and names: one that
the evidence does not hold is the commonest invention. It does not understand negation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from lmstack.core import Embedder
from lmstack.rag.search.lexical import content_words
from lmstack.rag.search.words import covered_share, number_words

__all__ = ["OverlapSupport", "SupportScorer"]

_INVENTED = 0.2
_NAME = re.compile(r"[^\W\d_][\w'’-]*")


class SupportScorer(Protocol):
    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        """Support of each claim by each piece of evidence, shape (claims, evidence)."""
        ...


class OverlapSupport:
    """The mean of the cosine and of the share of the claim's words found; 1 for a quotation."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    def score(self, claims: Sequence[str], evidence: Sequence[str]) -> list[list[float]]:
        if not claims or not evidence:
            return [[] for _ in claims]
        vectors = np.asarray(self._embedder.embed([*claims, *evidence], "passage"))
        cosines = vectors[: len(claims)] @ vectors[len(claims) :].T
        return [
            [_support(claim, text, float(cosines[i, j])) for j, text in enumerate(evidence)]
            for i, claim in enumerate(claims)
        ]


def _invents_name(claim: str, evidence: str) -> bool:
    """Whether ``claim`` holds a name that ``evidence`` does not; its first word has a capital in
    any case."""
    known = {word.casefold() for word in _NAME.findall(evidence)}
    return any(w[0].isupper() and w.casefold() not in known for w in _NAME.findall(claim)[1:])


def _support(claim: str, evidence: str, cosine: float) -> float:
    flat = " ".join(claim.split())
    if flat and flat in " ".join(evidence.split()):
        return 1.0
    words = dict.fromkeys(content_words(claim), 1.0)
    score = 0.5 * max(cosine, 0.0) + 0.5 * covered_share(words, evidence)
    if not number_words(claim) <= number_words(evidence) or _invents_name(claim, evidence):
        return min(score, _INVENTED)
    return min(score, 1.0)
