"""The figures of a comparison: a mean of each side and the interval of their paired difference.

Covers rewards, lengths, repetition, diversity, refusals, entropy, perplexity and calibration. Not
covered: the divergence and win rates, which are one number for both sides (`comparison`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lmstack.evals.answers import (
    SIDES,
    AnswerScores,
    Pairing,
    Predictions,
    TextScores,
    is_refusal,
    means,
)
from lmstack.evals.diversity import cut_alike, distinct, repeated_share, self_bleu, words
from lmstack.evals.metrics.calibration import Bin, calibration_bins, calibration_error
from lmstack.evals.statistics import (
    Estimate,
    Floats,
    bootstrap,
    bootstrap_places,
    mcnemar,
    paired,
    ratio_of,
    sign_flip,
)

__all__ = [
    "Figure",
    "bins_of",
    "diversity_figures",
    "entropy_figure",
    "length_figures",
    "refusal_figure",
    "reward_figure",
    "text_figures",
]


@dataclass(frozen=True)
class Figure:
    """``difference``: of the tuned model from the base; of a perplexity a share of the base's.
    ``unit``: ``share``, ``tokens``, ``nats`` or nothing."""

    name: str
    title: str
    base: float
    tuned: float
    difference: Estimate
    unit: str = ""

    def to_json(self) -> dict[str, Any]:
        return {**vars(self), "difference": self.difference.to_json()}


def _figure(name: str, title: str, base: Floats, tuned: Floats, unit: str = "") -> Figure:
    return Figure(name, title, float(base.mean()), float(tuned.mean()), paired(base, tuned), unit)


def reward_figure(pairings: Sequence[Pairing]) -> Figure:
    return _figure("reward", "Reward", *means(pairings, lambda a: float(a.reward or 0)))


def length_figures(pairings: Sequence[Pairing]) -> list[Figure]:
    tokens = means(pairings, lambda answer: float(answer.tokens))
    cut = means(pairings, lambda answer: float(answer.finish == "length"))
    repeats = means(pairings, lambda answer: repeated_share(words(answer.text)))
    return [
        _figure("length", "Length of an answer", *tokens, "tokens"),
        _figure("cut", "Answers that were cut", *cut, "share"),
        _figure("repetition", "Repeated 4-grams in an answer", *repeats, "share"),
    ]


def diversity_figures(pairings: Sequence[Pairing]) -> list[Figure]:
    """Of answers to one prompt where there are several, else of answers to all of them. Both sides
    are cut to the same lengths."""
    several = len(pairings[0].base) > 1
    groups = pairings if several else [_all_of(pairings)]
    cut = [
        cut_alike(*([words(answer.text) for answer in side(group)] for side in SIDES))
        for group in groups
    ]
    among = "to one prompt" if several else "to all prompts"
    found = []
    for name, title, measure in (
        ("distinct-1", f"Distinct words of answers {among}", lambda texts: distinct(texts, 1)),
        ("distinct-2", f"Distinct word pairs of answers {among}", lambda texts: distinct(texts, 2)),
        ("self-bleu", f"Self-BLEU of answers {among}", self_bleu),
    ):
        values = [(measure(one), measure(other)) for one, other in cut]
        known = [pair for pair in values if None not in pair]
        if known:
            base, tuned = np.array(known, np.float64).T
            found.append(_figure(name, title, base, tuned))
    return found


def _all_of(pairings: Sequence[Pairing]) -> Pairing:
    return Pairing(
        pairings[0].messages,
        tuple(pairing.base[0] for pairing in pairings),
        tuple(pairing.tuned[0] for pairing in pairings),
    )


def refusal_figure(pairings: Sequence[Pairing]) -> Figure:
    """Of the first answers, so that each prompt counts once and the test is exact."""
    base, tuned = (
        np.array([is_refusal(side(pairing)[0].text) for pairing in pairings], np.float64)
        for side in SIDES
    )
    gained, lost = int((tuned > base).sum()), int((base > tuned).sum())
    change = bootstrap(tuned - base)
    difference = Estimate(change.value, change.low, change.high, mcnemar(gained, lost))
    title = "Refusals of benign requests"
    return Figure("refusals", title, float(base.mean()), float(tuned.mean()), difference, "share")


def entropy_figure(scores: AnswerScores) -> Figure:
    rows = np.stack(
        [scores.tuned_entropy, scores.tokens, scores.base_entropy, scores.base_tokens], axis=1
    )

    def difference(rows: Floats) -> Floats:
        return ratio_of(rows[..., :2]) - ratio_of(rows[..., 2:])

    tuned, base = float(ratio_of(rows[:, :2])), float(ratio_of(rows[:, 2:]))
    title = "Entropy of the next token in its own answers"
    return Figure("entropy", title, base, tuned, bootstrap(rows, difference), "nats")


def text_figures(text: TextScores) -> list[Figure]:
    rows = np.stack([text.tuned_nll - text.base_nll, text.tokens], axis=1)

    def change(rows: Floats) -> Floats:
        found: Floats = np.exp(ratio_of(rows)) - 1
        return found

    worse = bootstrap(rows, change)
    p = sign_flip(text.tuned_nll - text.base_nll)
    base, tuned = (
        float(np.exp(nll.sum() / text.tokens.sum())) for nll in (text.base_nll, text.tuned_nll)
    )
    estimate = Estimate(worse.value, worse.low, worse.high, p)
    perplexity = Figure(
        "perplexity", "Perplexity of held-out text", base, tuned, estimate, "perplexity"
    )
    base, tuned = (_error(side, range(len(side))) for side in (text.base, text.tuned))
    difference = bootstrap_places(
        len(text.base), lambda chosen: _error(text.tuned, chosen) - _error(text.base, chosen)
    )
    title = "Calibration error of the next token of held-out text"
    return [perplexity, Figure("calibration", title, base, tuned, difference)]


def _error(passages: Sequence[Predictions], chosen: Sequence[int]) -> float:
    parts = [passages[i] for i in chosen]
    return calibration_error(
        np.concatenate([part.confidence for part in parts]),
        np.concatenate([part.correct for part in parts]),
    )


def bins_of(passages: Sequence[Predictions]) -> list[Bin]:
    return calibration_bins(
        np.concatenate([part.confidence for part in passages]),
        np.concatenate([part.correct for part in passages]),
    )
