"""How likely it is that a passage answers a question, from what a model thinks of all of them.

A passage answers the likelier the better a model likes it, and the more it stands out from the
others that were found: a question that the documents do not answer is often about what many
passages are about. A logistic curve (Platt 1999) in both makes a probability. It was fitted to
whether the first passage was right, on the tuning halves of `benchmarks/answers.py`;
`docs/quality.md` shows how well it holds on the others. A curve fits one model: scores of a model
without one say nothing about a single question, and there is no confidence then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.core import ModelInfo
from lmstack.rag.retrieve.hybrid import Hit

__all__ = ["Calibration", "Certainty", "calibration_of"]

# The first few may all answer; what they stand out from comes after them.
AHEAD = 3


@dataclass(frozen=True, slots=True)
class Calibration:
    """The log-odds are ``slope`` times the score of a passage (a reranker's, or a cosine), plus
    ``intercept``, plus ``lead`` times how far it is above the mean of the passages behind the
    first three. ``floor``: the score of a passage that has nothing to do with a question, which
    stands for those behind where there are none."""

    slope: float
    intercept: float
    lead: float = 0.0
    floor: float = 0.0

    def log_odds(self, score: float, rest: float | None = None) -> float:
        behind = self.floor if rest is None else rest
        return self.slope * score + self.lead * (score - behind) + self.intercept

    def __call__(self, score: float, rest: float | None = None) -> float:
        """The probability, between 0 and 1."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.log_odds(score, rest)))))


class Certainty:
    """How certain each of ``hits`` is to answer, the passages found for one question, best first.
    Where a reranker read them its scores count and its calibration; otherwise cosines and the
    embedder's. Without that calibration nothing is known."""

    def __init__(
        self, hits: Sequence[Hit], of_reranker: Calibration | None, of_embedder: Calibration | None
    ) -> None:
        self.by_reranker = any(hit.relevance is not None for hit in hits)
        self._calibration = of_reranker if self.by_reranker else of_embedder
        behind = [score for hit in hits[AHEAD:] if (score := self._score(hit)) is not None]
        self._rest = sum(behind) / len(behind) if behind else None

    def _score(self, hit: Hit) -> float | None:
        return hit.relevance if self.by_reranker else hit.similarity

    def __call__(self, hit: Hit) -> float | None:
        """The probability; None where nothing is known of it."""
        score = self._score(hit)
        if self._calibration is None or score is None:
            return None
        return self._calibration(score, self._rest)

    def odds(self, hit: Hit) -> float | None:
        """For one against."""
        probability = self(hit)
        return None if probability is None else probability / max(1e-12, 1 - probability)


_KNOWN: dict[str, Calibration] = {
    # Rerankers.
    "ms-marco-minilm-l12": Calibration(0.091, -1.75, lead=0.230, floor=-11.0),
    # Embedders, where there is no reranker: far less sure (docs/decisions.md).
    "all-minilm-l6-v2": Calibration(1.95, -2.15, lead=8.44, floor=0.0),
}


def calibration_of(model: ModelInfo) -> Calibration | None:
    """The curve of a reranker or an embedder; None where none was fitted."""
    return _KNOWN.get(model.name)
