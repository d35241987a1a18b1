"""Answers that two models gave to the same prompts: what a comparison is computed from.

A `Pairing` is one prompt with the answers of both sides. Not covered: drawing them (`drawing`) and
what is said of them (`comparison`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from lmstack.core import InputError, Message
from lmstack.evals.statistics import Floats

__all__ = ["SIDES", "ModelAnswer", "Pairing", "means", "shown_prompt"]


@dataclass(frozen=True)
class ModelAnswer:
    """``tokens``: how many, its end included. ``finish``: ``length`` where it was cut. ``reward``:
    None where nothing scores it. ``ids``: its tokens, where the model is on this machine."""

    text: str
    tokens: int
    finish: Literal["stop", "length"] = "stop"
    reward: float | None = None
    ids: tuple[int, ...] = ()

    def rewarded(self, reward: float) -> ModelAnswer:
        return dataclasses.replace(self, reward=reward)


@dataclass(frozen=True)
class Pairing:
    """``base`` and ``tuned``: answers to ``messages``, as many of one as of the other. ``row``:
    the data row of the prompt, which rewards read."""

    messages: tuple[Message, ...]
    base: tuple[ModelAnswer, ...]
    tuned: tuple[ModelAnswer, ...]
    row: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.base or len(self.base) != len(self.tuned):
            raise InputError(
                f"a prompt has {len(self.base)} answers of the base and {len(self.tuned)} of the"
                " other model; a comparison needs as many of both",
                param="samples",
            )

    @property
    def prompt(self) -> str:
        return shown_prompt(self.messages)

    @property
    def is_rewarded(self) -> bool:
        return all(answer.reward is not None for answer in (*self.base, *self.tuned))


SIDES: Sequence[Callable[[Pairing], tuple[ModelAnswer, ...]]] = (
    lambda pairing: pairing.base,
    lambda pairing: pairing.tuned,
)


def shown_prompt(messages: Sequence[Message]) -> str:
    """A conversation as a person reads it; a single turn of a user by itself."""
    if len(messages) == 1:
        return messages[0].content
    return "\n".join(f"{message.role}: {message.content}" for message in messages)


def means(
    pairings: Sequence[Pairing], measure: Callable[[ModelAnswer], float]
) -> tuple[Floats, Floats]:
    """``measure`` of the base's answers and of the other's, the mean of each prompt: (N,) each."""
    base, tuned = (
        np.array([np.mean([measure(a) for a in side(p)]) for p in pairings], np.float64)
        for side in SIDES
    )
    return base, tuned
