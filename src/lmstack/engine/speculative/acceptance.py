"""The acceptance rate of drafts, from how often such drafts were right.

Counts of hits and tries by how many tokens agreed before (or how deep in a draft the token is),
of a sequence and of all; a sequence about which little is known is taken to be like the others.
"""

from __future__ import annotations

import bisect
from typing import Self

__all__ = ["Acceptance"]

# Classes of agreement, each from so many tokens on, and what to believe of them at first.
STEPS = (0, 3, 4, 6, 9)
FIRST_RATES = (0.3, 0.4, 0.5, 0.6, 0.7)
# Tries that the belief about all counts as for one sequence, and the first belief for all.
OTHERS, FIRST = 2.0, 8.0


class Acceptance:
    """``others``: the counts of all sequences, None for those themselves. ``memory``: about how
    many of the last tries count."""

    def __init__(self, others: Self | None = None, memory: float = 32.0) -> None:
        self._others = others
        self._keep = 1 - 1 / memory
        self._hits = [0.0] * len(STEPS)
        self._tries = [0.0] * len(STEPS)

    def observe(self, agreed: int, hit: bool) -> None:
        """A token that ``agreed`` tokens spoke for was right, or not."""
        kind = bisect.bisect_right(STEPS, agreed) - 1
        self._hits[kind] = self._keep * self._hits[kind] + hit
        self._tries[kind] = self._keep * self._tries[kind] + 1
        if self._others is not None:
            self._others.observe(agreed, hit)

    def rate(self, agreed: int) -> float:
        """Probability that a token is right for which ``agreed`` tokens speak."""
        kind = bisect.bisect_right(STEPS, agreed) - 1
        weight, prior = FIRST, FIRST_RATES[kind]
        if self._others is not None:
            weight, prior = OTHERS, self._others.rate(agreed)
        return (self._hits[kind] + weight * prior) / (self._tries[kind] + weight)
