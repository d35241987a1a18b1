"""Which of two answers the principles prefer, with the probability that they do.

Each principle is one question to the judge, asked with the answers in both orders. The label's
probability is the mean of the principles', as in section 4.1 of Bai et al. 2022. Does not cover
how the judge is asked (`stages.Judge`).
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PairLabel", "PrincipleVerdict"]

_EVEN = 0.5


@dataclass(frozen=True)
class PrincipleVerdict:
    """Of one principle on one pair. ``shown_first`` and ``shown_second``: the probability that the
    first answer is better, when it is shown first and second; None where the judge named neither
    answer. ``probability``: of both orders together; None where it never named one."""

    principle: str
    shown_first: float | None
    shown_second: float | None
    probability: float | None

    @property
    def flips(self) -> bool:
        """Whether the judge preferred another answer when the order changed."""
        if self.shown_first is None or self.shown_second is None:
            return False
        return (self.shown_first - _EVEN) * (self.shown_second - _EVEN) < 0

    @property
    def position_bias(self) -> float | None:
        """How much likelier the judge took what was shown first, from -1/2 to 1/2."""
        if self.shown_first is None or self.shown_second is None:
            return None
        return (self.shown_first - self.shown_second) / 2


@dataclass(frozen=True)
class PairLabel:
    """Of one pair."""

    verdicts: tuple[PrincipleVerdict, ...]

    @property
    def probability(self) -> float | None:
        """That the first answer is better; None where no principle came to a verdict."""
        found = [p for verdict in self.verdicts if (p := verdict.probability) is not None]
        return sum(found) / len(found) if found else None

    @property
    def chosen(self) -> int | None:
        """0 or 1; None where there is no label, or an even one."""
        probability = self.probability
        if probability is None or probability == _EVEN:
            return None
        return 0 if probability > _EVEN else 1

    @property
    def disagree(self) -> bool:
        """Whether one principle prefers the first answer and another the second."""
        found = [p for verdict in self.verdicts if (p := verdict.probability) is not None]
        return any(p > _EVEN for p in found) and any(p < _EVEN for p in found)
