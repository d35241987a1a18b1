"""One-sided tests of a mean against a bound that was declared beforehand, and what they can show.

With the gain of a candidate over a baseline as the mean, a bound of -margin makes it a test of
non-inferiority, a bound of 0 or more one of superiority; with a score as the mean, of a threshold.

    MeanTest         what a gate asks of any test, with limits, detectable effects and sample sizes
    BoundedMean      for scores with known limits, in clusters or not (Gaffke, 2005)
    StudentizedMean  for any scores: bootstrap-t (Hall, 1988), never below Student's t

`BoundedMean` weighs the clusters at random (the Bayesian bootstrap), with one more cluster that
scores as badly as scores can. For values of two kinds it is the exact binomial test. That it keeps
its level for every bounded distribution and size is a conjecture that nobody has refuted or proven
(Learned-Miller and Thomas, 2019, arXiv:1905.06208). `StudentizedMean` keeps its level in the limit
of many clusters. Not covered: right or wrong, in pairs (`pairs`), and repeated looks
(`sequential`).

Legend: N samples, C clusters, R resamples.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import NormalDist
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.evals.clustered import ClusterSums
from lmstack.evals.distributions import exponentials_below, student_cdf

__all__ = ["BoundedMean", "ClusteredMean", "MeanTest", "StudentizedMean"]

Floats = npt.NDArray[np.float64]
_NORMAL = NormalDist()
_RESAMPLES, _FEW = 4999, 512


class MeanTest(ABC):
    """A mean that was measured, and the one-sided tests of it."""

    name: str
    halvings: ClassVar[int] = 40  # of the range in which a limit is searched for

    @property
    @abstractmethod
    def value(self) -> float:
        """The mean."""

    @property
    @abstractmethod
    def error(self) -> float:
        """Its standard error."""

    @property
    @abstractmethod
    def samples(self) -> int:
        """How many samples it is of."""

    @property
    @abstractmethod
    def range(self) -> tuple[float, float]:
        """Between which bounds limits are searched for."""

    @property
    def cost(self) -> float:
        """What a detectable effect holds that falls with the number of samples rather than with
        its square root."""
        return 0.0

    @abstractmethod
    def p_above(self, bound: float) -> float:
        """p of a mean of at most ``bound``, against a larger one."""

    @abstractmethod
    def p_below(self, bound: float) -> float:
        """p of a mean of at least ``bound``, against a smaller one."""

    def lower(self, alpha: float) -> float:
        """The largest bound that the mean is shown to be above, at the level ``alpha``."""
        low, high = self.range[0], self.value
        for _ in range(self.halvings):
            middle = (low + high) / 2
            low, high = (middle, high) if self.p_above(middle) <= alpha else (low, middle)
        return low

    def upper(self, alpha: float) -> float:
        """The smallest bound that the mean is shown to be below."""
        low, high = self.value, self.range[1]
        for _ in range(self.halvings):
            middle = (low + high) / 2
            low, high = (low, middle) if self.p_below(middle) <= alpha else (middle, high)
        return high

    def reach(self, bound: float, alpha: float) -> float:  # noqa: ARG002 - where it matters
        """How far above ``bound`` a mean has to be measured to be shown to lie above it, where
        samples vary as these do."""
        return self.value - self.lower(alpha)

    def scatter(self, reach: float) -> float:  # noqa: ARG002 - where it matters
        """The standard deviation of the mean less its ``reach``, from one set of samples to
        another."""
        return self.error

    def detectable(self, bound: float, alpha: float, power: float) -> float:
        """The smallest effect, counted from ``bound``, that is shown with probability ``power``:
        what has to be measured, and as much more as measurements scatter. NaN where too little is
        known."""
        reach = self.reach(bound, alpha)
        return reach + _NORMAL.inv_cdf(power) * self.scatter(reach)

    def power(self, bound: float, alpha: float, true: float) -> float:
        """The probability of showing a mean above ``bound`` where it is ``true``."""
        reach = self.reach(bound, alpha)
        distance, scatter = true - bound - reach, self.scatter(reach)
        if not scatter > 0:
            return float(distance >= 0)
        return _NORMAL.cdf(distance / scatter)

    def needed(self, bound: float, alpha: float, power: float, true: float) -> int | None:
        """How many samples show it with probability ``power`` where the mean is ``true`` and
        samples vary as these do. None where no number does."""
        effect, reach = true - bound, self.detectable(bound, alpha, power)
        if not effect > 0 or math.isnan(reach):
            return None
        cost = min(self.cost, reach)
        noise = reach - cost
        # effect = cost x^2 + noise x, with x = sqrt(samples now / samples then)
        x = 2 * effect / (noise + math.sqrt(noise * noise + 4 * cost * effect) or 1.0)
        return math.ceil(self.samples / (x * x))


@dataclass(frozen=True)
class ClusteredMean(MeanTest):
    """Of values in clusters, each value from ``least`` to ``most``."""

    sums: ClusterSums
    least: float
    most: float

    @property
    def value(self) -> float:
        return self.sums.mean

    @property
    def error(self) -> float:
        return self.sums.error

    @property
    def samples(self) -> int:
        return int(self.sums.sizes.sum())

    @property
    def range(self) -> tuple[float, float]:
        return self.least, self.most


@dataclass(frozen=True)
class BoundedMean(ClusteredMean):
    """Clusters are a sample of all there could be, none of them larger than the largest here."""

    name: str = "bounded mean, weighted clusters (Gaffke)"

    @property
    def cost(self) -> float:
        largest = float(self.sums.sizes.max())
        return largest * (self.value - self.least) / float(self.sums.sizes.sum())

    def p_above(self, bound: float) -> float:
        return _weighted(self.sums.sums - bound * self.sums.sizes, self.sums, bound - self.least)

    def p_below(self, bound: float) -> float:
        return _weighted(bound * self.sums.sizes - self.sums.sums, self.sums, self.most - bound)

    def reach(self, bound: float, alpha: float) -> float:
        rest = self.sums.sums - self.value * self.sums.sizes
        low, high = 0.0, self.most - self.least
        for _ in range(self.halvings // 2):
            middle = (low + high) / 2
            moved = rest + middle * self.sums.sizes  # as if the mean were that far above
            shown = _weighted(moved, self.sums, bound - self.least) <= alpha
            low, high = (low, middle) if shown else (middle, high)
        return high


def _weighted(excess: Floats, sums: ClusterSums, depth: float) -> float:
    worst = -float(sums.sizes.max()) * depth
    return exponentials_below(np.append(excess, worst))


@dataclass(frozen=True)
class StudentizedMean(MeanTest):
    """Of ``values`` (C,), one a cluster: means, or `clustered.pseudo_values` of any statistic.
    ``count``: the samples in all clusters."""

    values: Floats
    count: int
    seed: int = 0
    name: str = "bootstrap-t over clusters"

    def __post_init__(self) -> None:
        if not np.isfinite(self.values).all():
            raise InputError(
                "the statistic is not finite of all clusters, or without one of them",
                hint="leave out samples that it is not defined for",
                param="values",
            )

    @property
    def value(self) -> float:
        return float(self.values.mean())

    @cached_property
    def error(self) -> float:
        if len(self.values) < 2:
            return math.nan
        found = float(self.values.std(ddof=1)) / math.sqrt(len(self.values))
        scale = float(np.abs(self.values).max())
        return found if found > 1e-12 * scale else 0.0

    def scatter(self, reach: float) -> float:
        """The reach is a multiple t of the error, which is estimated too, and rises with the mean
        where values are skewed: by the delta method the variance of both is that of the mean times
        1 - t skewness / sqrt(C) + t^2 (kurtosis - 1) / (4 C)."""
        if not self.error > 0:
            return self.error
        rest = self.values - self.values.mean()
        rest = rest / rest.std()
        count, t = len(rest), reach / self.error
        skewness, kurtosis = float((rest**3).mean()), float((rest**4).mean())
        both = 1 - t * skewness / math.sqrt(count) + t * t * (kurtosis - 1) / (4 * count)
        return self.error * math.sqrt(max(both, 0.25))  # few values may say less than nothing

    @property
    def samples(self) -> int:
        return self.count

    @property
    def range(self) -> tuple[float, float]:
        far = 1000 * self.error if self.error > 0 else max(1.0, abs(self.value))
        return self.value - far, self.value + far

    def p_above(self, bound: float) -> float:
        return self._p(self.value - bound, 1)

    def p_below(self, bound: float) -> float:
        return self._p(bound - self.value, -1)

    def _p(self, distance: float, sign: int) -> float:
        if math.isnan(self.error):
            return 1.0
        if self.error == 0:  # all alike: the sign test is all that is left
            return 0.5 ** len(self.values) if distance > 0 else 1.0
        t = distance / self.error
        drawn = self._drawn
        beyond = int((drawn >= t).sum() if sign > 0 else (drawn <= -t).sum())
        return max((beyond + 1) / (len(drawn) + 1), student_cdf(-t, len(self.values) - 1))

    @cached_property
    def _drawn(self) -> Floats:
        """(R,): t of resamples around the mean. A resample of equal values has none: it
        counts for the side that it fell on."""
        count = len(self.values)
        rest = self.values - self.values.mean()
        counts = _counts(count, self.seed) if count <= _FEW else _draw(count, self.seed)
        means, squares = (counts @ np.stack([rest, rest * rest], axis=1) / count).T
        spread = np.maximum(squares - means * means, 0.0)
        errors = np.sqrt(spread / (count - 1))
        sided = np.where(means == 0, 0.0, np.copysign(np.inf, means))
        flat = errors <= 1e-12 * np.abs(rest).max()
        found: Floats = np.where(flat, sided, means / np.where(flat, 1.0, errors))
        return found


def _draw(count: int, seed: int) -> Floats:
    """(R, C): how often each value is in each resample."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1 / count), _RESAMPLES).astype(np.float64)


@lru_cache(4)
def _counts(count: int, seed: int) -> Floats:
    return _draw(count, seed)
