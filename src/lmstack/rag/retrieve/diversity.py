"""Say a thing once: near-duplicates collapsed, and maximal marginal relevance.

MMR (Carbonell and Goldstein 1998): the next passage is the one with the largest
``share * relevance - (1 - share) * likeness to what was chosen``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.rescoring import scaled

__all__ = ["collapse", "diversify"]

_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+")
_SHINGLE = 3


def collapse(hits: Sequence[Hit], threshold: float) -> tuple[list[Hit], dict[int, str]]:
    """``hits`` without those that share ``threshold`` of their words in sequence (Jaccard index
    of runs of three) with one before them; and which those are. Texts that differ in a number
    say different things, and are never duplicates."""
    kept: list[tuple[Hit, list[str], frozenset[tuple[str, ...]]]] = []
    gone: dict[int, str] = {}
    for hit in hits:
        numbers, shingles = _NUMBER.findall(hit.text), _shingles(hit.text)
        twin = next(
            (
                other
                for other, others, theirs in kept
                if others == numbers and _jaccard(shingles, theirs) >= threshold
            ),
            None,
        )
        if twin is None:
            kept.append((hit, numbers, shingles))
        else:
            gone[hit.chunk_id] = f"says what {twin.path} ({twin.start}-{twin.end}) says"
    return [hit for hit, _, _ in kept], gone


def diversify(
    hits: Sequence[Hit], vectors: npt.NDArray[np.float32], k: int, share: float
) -> list[Hit]:
    """The ``k`` hits that MMR chooses, in that order; row i of ``vectors`` (unit length) is
    that of hit i. The score of a hit is its marginal relevance."""
    relevance = scaled([hit.score for hit in hits])
    likeness = np.zeros(len(hits))
    left = list(range(len(hits)))
    chosen: list[Hit] = []
    while left and len(chosen) < k:
        gains = [share * relevance[row] - (1 - share) * likeness[row] for row in left]
        row = left.pop(int(np.argmax(gains)))
        chosen.append(replace(hits[row], score=float(max(gains))))
        near = vectors @ vectors[row]
        likeness = near if len(chosen) == 1 else np.maximum(likeness, near)
    return chosen


def _shingles(text: str) -> frozenset[tuple[str, ...]]:
    words = [word.lower() for word in _WORD.findall(text)]
    if len(words) < _SHINGLE:
        return frozenset([tuple(words)])
    return frozenset(zip(*(words[i:] for i in range(_SHINGLE)), strict=False))


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]]) -> float:
    return len(a & b) / len(a | b)
