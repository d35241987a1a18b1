"""Answers of a base and a tuned model that change in ways that we choose."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lmstack.core import Message
from lmstack.evals.answers import ModelAnswer, Pairing

__all__ = ["VOCABULARY", "paired_answers"]

VOCABULARY = [f"word{n}" for n in range(400)]
Score = Callable[[str, str], float]


def paired_answers(
    score: Score,
    *,
    seed: int,
    prompts: int = 24,
    each: int = 2,
    longer: float = 1.0,
    phrase: str = "",
    share: float = 0.9,
) -> list[Pairing]:
    """The tuned answers have ``longer`` times as many words, and a ``share`` of them ``phrase``.
    ``score``: of a prompt and an answer's text."""
    rng = np.random.default_rng(seed)

    def answer(prompt: str, scale: float, extra: str) -> ModelAnswer:
        size = 4 + int(rng.poisson(12 * scale))
        text = " ".join(rng.choice(VOCABULARY, size))
        if extra and rng.random() < share:
            text = f"{text} {extra}"
        return ModelAnswer(text, len(text.split()), reward=score(prompt, text))

    found = []
    for number in range(prompts):
        prompt = f"question {number} about {rng.choice(VOCABULARY)}"
        base = tuple(answer(prompt, 1.0, "") for _ in range(each))
        tuned = tuple(answer(prompt, longer, phrase) for _ in range(each))
        found.append(Pairing((Message("user", prompt),), base, tuned))
    return found
