"""Simple shaping: length and form, put beside a reward of what an answer says.

They are what a model learns to satisfy by itself, so weigh them little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lmstack.core import InputError, allowed
from lmstack.train.rewards.reward import RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["Finished", "Length", "Markers"]


@dataclass(frozen=True)
class Length(RewardFunction):
    """DAPO's soft punishment of answers that are too long (Yu et al., 2025, eq. 13), in tokens: 0
    up to ``most`` less ``buffer``, falling in a line to -1 at ``most``, and -1 beyond."""

    name: ClassVar[str] = "length"

    most: int = allowed(512, int, 1, 1 << 20)
    buffer: int = allowed(128, int, 0, 1 << 20)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.buffer > self.most:
            raise InputError(
                f"buffer is {self.buffer}, more than most, {self.most}",
                hint="buffer: the last tokens before most",
                param="buffer",
            )

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [self._score(len(sample.ids)) for sample in samples]

    def _score(self, length: int) -> float:
        begins = self.most - self.buffer
        if length <= begins:
            return 0.0
        return -1.0 if length >= self.most else (begins - length) / self.buffer


@dataclass(frozen=True)
class Finished(RewardFunction):
    """1 where the answer came to its end, 0 where it was cut."""

    name: ClassVar[str] = "finished"

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [float(sample.finish == "stop") for sample in samples]


@dataclass(frozen=True)
class Markers(RewardFunction):
    """1 where each of ``markers`` (``["<think>", "</think>"]``) stands in the answer once, in
    their order, else 0."""

    name: ClassVar[str] = "markers"

    markers: tuple[str, ...] = allowed((), str, 0, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.markers:
            raise InputError(
                "markers is empty", hint='markers: ["<think>", "</think>"]', param="markers"
            )

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return [float(self._holds(sample.text)) for sample in samples]

    def _holds(self, text: str) -> bool:
        places = [text.find(marker) for marker in self.markers]
        once = all(text.count(marker) == 1 for marker in self.markers)
        return once and places == sorted(places)
