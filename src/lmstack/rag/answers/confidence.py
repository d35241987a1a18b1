"""How likely it is that a passage answers a question, from what a model thinks of the two.

A model's score is made a probability by a logistic curve (Platt 1999) that was fitted to whether
the passage was right, on the tuning halves of `benchmarks/answers.py`; `docs/quality.md` shows how
well it holds on the others. A curve fits one model: scores of a model without one say nothing
about a single question, and there is no confidence then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lmstack.core import ModelInfo

__all__ = ["Calibration", "calibration_of"]


@dataclass(frozen=True, slots=True)
class Calibration:
    """``slope`` and ``intercept`` of the log-odds in the score: a reranker's, or a cosine."""

    slope: float
    intercept: float

    def log_odds(self, score: float) -> float:
        return self.slope * score + self.intercept

    def __call__(self, score: float) -> float:
        """Between 0 and 1."""
        return 1 / (1 + math.exp(-max(-60.0, min(60.0, self.log_odds(score)))))


_KNOWN: Mapping[str, Calibration] = {
    # Rerankers.
    "ms-marco-minilm-l12": Calibration(0.425, -0.444),
    # Embedders, where there is no reranker: far less sure (docs/decisions.md).
    "minilm": Calibration(8.75, -4.34),
}


def calibration_of(model: ModelInfo) -> Calibration | None:
    """The curve of a reranker or an embedder; None where none was fitted."""
    return _KNOWN.get(model.name)
