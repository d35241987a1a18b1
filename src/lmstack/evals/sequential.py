"""Tests that may be looked at as often as one likes: betting on a mean (Waudby-Smith and Ramdas,
2023, arXiv:2010.09686).

A gambler who bets a fraction of the capital on "the mean is above the bound" cannot expect to win
where it is not. So the capital, from 1, reaches 1 / alpha with probability at most alpha (Ville's
inequality), whenever it is looked at and whyever one stops. Here the capital is shared out over a
grid of fractions, whose bets are all kept: nothing is tuned on what has been seen, and the result
does not depend on the order of the samples. The price is a test with less power than one that is
looked at once.

    BettingMean         the test of all samples so far, with the limits of a confidence sequence
    BettingProcess      the same for one bound, fed as samples come (a canary, a shadow)
    capitals            what a gambler has after each of many samples
    confidence_sequence its limits at each of several looks, valid at all of them together
    quantile_limits     those of a quantile, of values that need no known limits

Not covered: means of scores without known limits, which nobody can bet on.

Legend: N samples, C clusters, G fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_range, shown
from lmstack.evals.clustered import cluster_sums
from lmstack.evals.noninferiority import ClusteredMean

__all__ = [
    "BettingMean",
    "BettingProcess",
    "capitals",
    "confidence_sequence",
    "quantile_limits",
]

Floats = npt.NDArray[np.float64]
# Of the capital; small ones for small effects, that need many samples.
_FRACTIONS: Floats = np.geomspace(0.005, 0.95, 24)


@dataclass(frozen=True)
class BettingMean(ClusteredMean):
    """``largest``: the size that no cluster will exceed, known before any is seen."""

    largest: float = 1.0
    name: str = "betting, valid at every look"
    halvings: ClassVar[int] = 22

    def __post_init__(self) -> None:
        largest = float(self.sums.sizes.max())
        if largest > self.largest:
            raise InputError(
                f"a cluster has {largest:g} samples, and {self.largest:g} were said to be the most",
                hint="say beforehand how large a cluster can be",
                param="largest",
            )

    def p_above(self, bound: float) -> float:
        excess = self.sums.sums - bound * self.sums.sizes
        return _p(_log_capital(excess, self.largest * (bound - self.least)))

    def p_below(self, bound: float) -> float:
        excess = bound * self.sums.sizes - self.sums.sums
        return _p(_log_capital(excess, self.largest * (self.most - bound)))


def _log_capital(excess: Floats, depth: float) -> float:
    """Of ``excess`` (C,): a cluster's sum less what the bound allows it, at least -``depth``."""
    if depth <= 0:
        return 0.0
    # Shares have few values however many samples there are.
    values, counts = np.unique(excess, return_counts=True)
    return _mixed(np.log1p(np.multiply.outer(_FRACTIONS, values / depth)) @ counts)


def _mixed(logs: Floats) -> float:
    """log of the mean of exp(``logs``) (G,)."""
    top = float(logs.max())
    return top + math.log(float(np.exp(logs - top).mean()))


def capitals(values: npt.ArrayLike, bound: float, least: float = -1.0) -> Floats:
    """(..., N): the capital after each of ``values`` (..., N), bet against a mean of at most
    ``bound``. 1 / its highest so far is a p-value at every look."""
    excess = (np.asarray(values, np.float64) - bound) / (bound - least)
    total = np.zeros_like(excess)
    for fraction in _FRACTIONS.tolist():
        total += np.exp(np.minimum(np.log1p(fraction * excess).cumsum(-1), 700.0))
    return total / len(_FRACTIONS)


def _p(log_capital: float) -> float:
    return math.exp(min(0.0, -log_capital))


@dataclass
class BettingProcess:
    """Against a mean of at most ``bound``, of values from ``least`` to ``most`` that come one by
    one. Mutable: `add` takes them. ``most_capital``: the most there has been, by which `p` is
    counted."""

    bound: float
    least: float = -1.0
    most: float = 1.0
    count: int = 0
    most_capital: float = 1.0
    _logs: Floats = field(default_factory=lambda: np.zeros(len(_FRACTIONS)), repr=False)

    def __post_init__(self) -> None:
        if not self.least < self.bound < self.most:
            raise InputError(
                f"the bound {shown(self.bound)} is not between {self.least:g} and {self.most:g}",
                hint="a bound outside of the values' range needs no test",
                param="bound",
            )

    def add(self, values: Iterable[float]) -> float:
        """Bets on ``values`` in their order; the capital after them."""
        for value in values:
            if not self.least <= value <= self.most:
                raise InputError(
                    f"{shown(value)} is not between {self.least:g} and {self.most:g}",
                    hint="give differences of scores between 0 and 1",
                    param="values",
                )
            self._logs += np.log1p(_FRACTIONS * (value - self.bound) / (self.bound - self.least))
            self.count += 1
            self.most_capital = max(self.most_capital, self.capital)
        return self.capital

    @property
    def capital(self) -> float:
        return math.exp(min(_mixed(self._logs), 700.0))

    @property
    def p(self) -> float:
        """Valid at every look."""
        return 1 / self.most_capital


def confidence_sequence(
    values: npt.ArrayLike,
    looks: Sequence[int],
    alpha: float = 0.05,
    *,
    least: float = -1.0,
    most: float = 1.0,
) -> Floats:
    """(len(looks), 2): limits of the mean after each number of ``values`` (N,). With probability
    1 - ``alpha`` all of them hold, at every look. Limits once excluded stay so."""
    numbers = np.asarray(values, np.float64)
    if not (np.isfinite(numbers).all() and (numbers >= least).all() and (numbers <= most).all()):
        raise InputError(
            f"some values are not between {least:g} and {most:g}",
            hint="give differences of scores between 0 and 1",
            param="values",
        )
    if any(not 1 <= look <= len(numbers) for look in looks):
        raise InputError(
            f"there are {len(numbers)} values, and looks at {list(looks)}",
            hint="look after 1 value at the earliest and after all at the latest",
            param="looks",
        )
    found = np.empty((len(looks), 2))
    low, high = least, most
    for place, look in sorted(enumerate(looks), key=lambda each: each[1]):
        test = BettingMean(cluster_sums(numbers[:look]), least, most)
        low, high = max(low, test.lower(alpha / 2)), min(high, test.upper(alpha / 2))
        found[place] = low, high
    return found


def quantile_limits(
    values: npt.ArrayLike, share: float, alpha: float = 0.05
) -> tuple[float, float]:
    """Limits of the quantile below which a ``share`` of all values lies, from ``values`` (N,) so
    far: with probability 1 - ``alpha`` they hold at every look. Infinite where too little is known.

    Whether a value is at most the quantile is true of at least that share, so a bound that too few
    or too many of ``values`` are at most is excluded by a bet on that."""
    check_range("share", share, 0, 1, low_open=True, high_open=True)
    ordered = np.sort(np.asarray(values, np.float64))
    total = len(ordered)

    def excluded(count: int, *, above: bool) -> bool:
        excess = np.array([1.0 - share, -share]) * (1 if above else -1)
        depth = share if above else 1.0 - share
        counts = np.array([count, total - count])
        logs = np.log1p(np.multiply.outer(_FRACTIONS, excess / depth)) @ counts
        return _p(_mixed(logs)) <= alpha / 2

    # No bound below the value after these has more values at most it, also where some are equal.
    few = _last(total, lambda count: excluded(count, above=False))
    enough = total - _last(total, lambda count: excluded(total - count, above=True))
    low = float(ordered[few]) if few >= 0 else -math.inf
    high = float(ordered[enough - 1]) if enough <= total else math.inf
    return low, high


def _last(most: int, holds: Callable[[int], bool]) -> int:
    """The largest number up to ``most`` for which ``holds``, as for all below it; -1 for none."""
    low, high = -1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
