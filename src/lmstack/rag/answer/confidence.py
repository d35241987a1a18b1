"""How likely it is that a passage answers a question, from what a model thinks of all of them.

A passage answers the likelier the better a model likes it, and the more it stands out from the
others that were found: a question that the documents do not answer is often about what many
passages are about. A reader (`lmstack.train`, objective ``reader``) was taught that: its scores and
that of "none" share a softmax, which is its probability (`SharedNorm`). For other models a logistic
curve (Platt 1999) in both makes one (`Calibration`). It was fitted to whether the first passage was
right, on the tuning halves of `benchmarks/answers.py`; `docs/quality.md` shows how well it holds on
the others. A curve fits one model: scores of a model without one say nothing about a single
question, and there is no confidence then.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from lmstack.core import ModelInfo
from lmstack.rag.retrieve.hybrid import Hit

__all__ = ["Calibration", "Certainty", "ScoreMeaning", "SharedNorm", "calibration_of"]

# The first few may all answer; what they stand out from comes after them.
AHEAD = 3


class ScoreMeaning(Protocol):
    """What the scores of a model say."""

    def probabilities(self, scores: Sequence[float]) -> list[float]:
        """Of each passage found for one question, best first, to answer it."""


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

    def probabilities(self, scores: Sequence[float]) -> list[float]:
        behind = scores[AHEAD:]
        rest = sum(behind) / len(behind) if behind else None
        return [self(score, rest) for score in scores]


@dataclass(frozen=True, slots=True)
class SharedNorm:
    """Passage i answers with the probability e^(z_i) / (1 + sum of all e^(z_j)), where z is the
    score above ``null_score``, divided by ``temperature``; the 1 is that nothing does."""

    temperature: float
    null_score: float

    def probabilities(self, scores: Sequence[float]) -> list[float]:
        logits = [(score - self.null_score) / self.temperature for score in scores]
        most = max(logits, default=0.0)
        shift = max(0.0, most)
        odds = [math.exp(logit - shift) for logit in logits]
        total = math.exp(-shift) + sum(odds)
        return [each / total for each in odds]


class Certainty:
    """How certain each of ``hits`` is to answer, the passages found for one question, best first.
    Where a reranker read them its scores count and its calibration; otherwise cosines and the
    embedder's. Without that calibration nothing is known."""

    def __init__(
        self,
        hits: Sequence[Hit],
        of_reranker: ScoreMeaning | None,
        of_embedder: ScoreMeaning | None,
    ) -> None:
        self.by_reranker = any(hit.relevance is not None for hit in hits)
        meaning = of_reranker if self.by_reranker else of_embedder
        scored = {h.chunk_id: score for h in hits if (score := self._score(h)) is not None}
        self._known = dict[int, float]()
        if meaning is not None:
            found = meaning.probabilities(list(scored.values()))
            self._known = dict(zip(scored, found, strict=True))

    def _score(self, hit: Hit) -> float | None:
        return hit.relevance if self.by_reranker else hit.similarity

    def __call__(self, hit: Hit) -> float | None:
        """The probability; None where nothing is known of it."""
        return self._known.get(hit.chunk_id)

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


def calibration_of(model: ModelInfo) -> ScoreMeaning | None:
    """What the scores of a reranker or an embedder say; None where nobody knows."""
    if model.shared_norm is not None:
        return SharedNorm(*model.shared_norm)
    return _KNOWN.get(model.name)
