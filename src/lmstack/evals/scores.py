"""What a pass of both models over the same tokens gives, as sums: the numbers that text alone does
not hold. Whoever has the tensors computes them (`lmstack.app.comparison`).

Legend: N prompts, W passages of a held-out text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.evals.statistics import Floats

__all__ = ["AnswerScores", "Predictions", "TextScores"]


@dataclass(frozen=True)
class Predictions:
    """Of one passage, a place a token: the probability of the most likely token, and 1 where that
    came."""

    confidence: Floats
    correct: Floats


@dataclass(frozen=True)
class AnswerScores:
    """(N,) each, over the answers that were scored of each prompt.

    ``divergence``: nats, the sum over the tuned model's answers of KL(tuned || base) at each
    token, over the whole vocabulary: less spread than the difference of the drawn tokens'
    log-probabilities and never negative, with the same mean (Amini et al., 2025).
    ``tokens``, ``answers``: how many that was summed over. ``base_entropy``, ``tuned_entropy``:
    nats, summed over each model's own ``base_tokens`` and ``tokens``."""

    divergence: Floats
    tokens: Floats
    answers: Floats
    tuned_entropy: Floats
    base_entropy: Floats
    base_tokens: Floats


@dataclass(frozen=True)
class TextScores:
    """``base_nll``, ``tuned_nll``: (W,) nats, over the ``tokens`` (W,) of each passage. ``base``,
    ``tuned``: what each predicted there."""

    base_nll: Floats
    tuned_nll: Floats
    tokens: Floats
    base: Sequence[Predictions]
    tuned: Sequence[Predictions]
