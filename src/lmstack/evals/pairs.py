"""Right or wrong, in pairs: one-sided tests of the difference of two shares on the same samples.

Of n samples the candidate gained some (only it is right) and lost some (only the baseline is). The
score of Tango (1998, Statistics in Medicine 17:891) measures how far the difference is above a
bound, with the variance that it would have at the bound. Its p-value here is exact: the largest
probability, over all shares of discordant pairs, of a score as high (unconditional; Hsueh, Liu and
Chen, 2001, Biometrics 57:478), so that no size and no correlation of the two systems raises the
false-positive rate above the level. At a bound of 0 the score is McNemar's.

Not covered: samples in clusters (`noninferiority.BoundedMean`).

Legend: n pairs; a lost and b gained among them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.evals.distributions import log_factorials
from lmstack.evals.noninferiority import MeanTest

__all__ = ["BinaryPairs", "critical_gains", "exact_pairs", "pairs_power", "tango"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
_NORMAL = NormalDist()
_SHARES, _FEW_SHARES = 97, 25  # of discordant pairs that are tried: of many pairs fewer do
_MANY, _HALVINGS = 2000, 11
_EXACT_POWER = 500  # pairs up to which power and limits are computed from the exact test
_SLACK = 1e-9  # scores in another order of operations are the same score


def tango(gained: npt.ArrayLike, lost: npt.ArrayLike, total: int, bound: float) -> Floats:
    """The score of a difference (gained - lost) / total against ``bound``: standard normal in the
    limit where the difference is the bound."""
    b, a = np.asarray(gained), np.asarray(lost)
    excess = b - a - total * bound
    # The likeliest share of lost pairs at the bound solves 2n q^2 + first q + last = 0.
    first = -b - a + (2 * total - b + a) * bound
    last = -a * bound * (1 - bound)
    share = (np.sqrt(np.maximum(first**2 - 8 * total * last, 0)) - first) / (4 * total)
    variance = total * (2 * share + bound * (1 - bound))
    tiny = 1e-12 * total
    found: Floats = np.where(
        variance > tiny,
        excess / np.sqrt(np.maximum(variance, tiny)),
        np.where(excess == 0, 0.0, np.copysign(np.inf, excess)),
    )
    return found


@lru_cache(8192)
def exact_pairs(gained: int, lost: int, total: int, bound: float, shares: int = _SHARES) -> float:
    """p of a difference of at most ``bound``, against a larger one. ``shares``: of discordant pairs
    that are tried."""
    if not (min(gained, lost) >= 0 and gained + lost <= total and -1 < bound < 1):
        raise InputError(
            f"{gained} gained and {lost} lost of {total}, against {bound}, is no table of pairs",
            hint="count pairs, with a bound between -1 and 1",
        )
    score = float(tango(gained, lost, total, bound))
    return _largest(total, _least_gained(total, bound, score), bound, shares)


@lru_cache(256)
def critical_gains(total: int, bound: float, alpha: float) -> Ints:
    """(n + 1,): for each number of lost pairs, the fewest gained ones at which the difference is
    shown to be above ``bound``; more than there are pairs where none are enough."""
    low = _NORMAL.inv_cdf(1 - alpha) - 0.5
    high = low + 2.0
    while _largest(total, _least_gained(total, bound, high), bound) > alpha:
        high += 2.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        small = _largest(total, _least_gained(total, bound, middle), bound) <= alpha
        low, high = (low, middle) if small else (middle, high)
    return _least_gained(total, bound, high)


def pairs_power(
    total: int, bound: float, alpha: float, difference: float, discordant: float
) -> float:
    """The probability of showing a difference above ``bound`` where it is ``difference`` and a
    share of ``discordant`` pairs is gained or lost."""
    discordant = max(discordant, abs(difference))
    least = critical_gains(total, bound, alpha)
    return _chance(total, least, (discordant - difference) / 2, (discordant + difference) / 2)


def _least_gained(total: int, bound: float, score: float) -> Ints:
    """(n + 1,): for each number of lost pairs, the fewest gained at which the score is reached.
    The score rises with gained pairs."""
    lost = np.arange(total + 1)
    low, high = np.zeros(total + 1, np.int64), total - lost + 1
    while (open_ := low < high).any():
        middle = (low + high) // 2
        reached = tango(middle, lost, total, bound) >= score - _SLACK
        high = np.where(open_ & reached, middle, high)
        low = np.where(open_ & ~reached, middle + 1, low)
    return low


def _largest(total: int, least: Ints, bound: float, count: int = _SHARES) -> float:
    """The largest probability of the region at a difference of ``bound``."""
    low, high = max(0.0, -bound), (1 - bound) / 2
    count = min(count, _FEW_SHARES if total > _MANY else _SHARES)
    # Denser where few pairs are discordant: there the probability changes fastest.
    shares = low + (high - low) * np.linspace(0, 1, count) ** 2
    return min(1.0, max(_chance(total, least, q, q + bound) for q in shares.tolist()))


def _chance(total: int, least: Ints, lost: float, gained: float) -> float:
    """The probability that at least ``least[a]`` pairs are gained where a are lost."""
    logs = log_factorials(total)
    a, b = _likely(total, lost), _likely(total, gained)
    rest = total - a[:, None] - b
    inside = (b >= least[a][:, None]) & (rest >= 0)
    parts = _powers(a, lost, logs)[:, None] + _powers(b, gained, logs)
    rest = np.maximum(rest, 0)
    parts = parts + logs[total] - logs[rest] + rest * math.log(max(1 - lost - gained, 1e-300))
    return float(np.exp(parts[inside]).sum())


def _powers(counts: Ints, share: float, logs: Floats) -> Floats:
    found: Floats = counts * math.log(max(share, 1e-300)) - logs[counts]
    return found


def _likely(total: int, share: float) -> Ints:
    """The counts outside which a binomial one is less often than once in 10^9."""
    half = 6.5 * math.sqrt(total * max(share, 0) * (1 - share)) + 10
    middle = total * share
    return np.arange(max(0, math.floor(middle - half)), min(total, math.ceil(middle + half)) + 1)


@dataclass(frozen=True)
class BinaryPairs(MeanTest):
    """``gained`` and ``lost`` of ``total`` independent samples."""

    gained: int
    lost: int
    total: int
    name: str = "exact test of pairs (Tango's score)"

    @property
    def value(self) -> float:
        return (self.gained - self.lost) / self.total

    @property
    def error(self) -> float:
        discordant = (self.gained + self.lost) / self.total
        return math.sqrt(max(discordant - self.value**2, 0.0) / self.total)

    @property
    def samples(self) -> int:
        return self.total

    @property
    def range(self) -> tuple[float, float]:
        return -1.0, 1.0

    @property
    def discordant(self) -> float:
        """The share of pairs that differ, drawn a little from nought: none seen is not none."""
        return (self.gained + self.lost + 0.5) / (self.total + 1)

    def p_above(self, bound: float) -> float:
        if bound <= -1:
            return 1.0
        return exact_pairs(self.gained, self.lost, self.total, bound)

    def p_below(self, bound: float) -> float:
        if bound >= 1:
            return 1.0
        return exact_pairs(self.lost, self.gained, self.total, -bound)

    def lower(self, alpha: float) -> float:
        return self._limit(alpha, self.gained, self.lost)

    def upper(self, alpha: float) -> float:
        return -self._limit(alpha, self.lost, self.gained)

    def _limit(self, alpha: float, gained: int, lost: int) -> float:
        """The lower limit. It is near the one by the normal limit of the score, which is as good as
        exact for many pairs."""
        low, high = -1.0, (gained - lost) / self.total
        for _ in range(40):
            middle = (low + high) / 2
            shown = float(tango(gained, lost, self.total, middle)) >= _NORMAL.inv_cdf(1 - alpha)
            low, high = (middle, high) if shown else (low, middle)
        if self.total > _EXACT_POWER or high <= -1:
            return low
        around = 0.02 + 2 / self.total
        low, high = max(-1.0, low - around), min(low + around, (gained - lost) / self.total)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            shown = exact_pairs(gained, lost, self.total, middle, _FEW_SHARES) <= alpha
            low, high = (middle, high) if shown else (low, middle)
        return low

    def detectable(self, bound: float, alpha: float, power: float) -> float:
        low, high = 0.0, 1 - bound
        for _ in range(30):
            middle = (low + high) / 2
            enough = self.power(bound, alpha, bound + middle) >= power
            low, high = (low, middle) if enough else (middle, high)
        return high

    def power(self, bound: float, alpha: float, true: float) -> float:
        discordant = max(self.discordant, abs(true))
        if self.total <= _EXACT_POWER:
            return pairs_power(self.total, bound, alpha, true, discordant)
        at_bound = math.sqrt(max(max(discordant, abs(bound)) - bound**2, 1e-12) / self.total)
        here = math.sqrt(max(discordant - true**2, 1e-12) / self.total)
        return _NORMAL.cdf((true - bound - _NORMAL.inv_cdf(1 - alpha) * at_bound) / here)
