"""Intervals and tests of paired figures, resampled by prompt.

    bootstrap      bias-corrected and accelerated interval of any statistic of rows (Efron, 1987)
    wilson         interval of a share (Wilson, 1927)
    sign_flip      paired test of a mean difference: exact, or by random signs where that is many
    mcnemar        exact paired test of two shares
    holm           p-values of several tests, adjusted (Holm, 1979)

A row is what one prompt gave, however many answers were drawn for it: answers to one prompt are
alike, so that they must not count as if they were so many prompts. All of it agrees with scipy
where scipy has it. Not covered: correlation within prompts (`association`), samples that come in
clusters (`clustered`), and tests against a margin (`noninferiority`).

Legend: N rows, K columns of a row, R resamples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "CONFIDENCE",
    "Estimate",
    "bca_interval",
    "bootstrap",
    "bootstrap_places",
    "holm",
    "mcnemar",
    "mean_of",
    "paired",
    "ratio_of",
    "sign_flip",
    "wilson",
]

Floats = npt.NDArray[np.float64]
CONFIDENCE = 0.95
_RESAMPLES, _FEW_RESAMPLES = 2000, 400
_EXACT = 12  # rows of which all signs are tried: 4,096
_NORMAL = NormalDist()


@dataclass(frozen=True)
class Estimate:
    """``low`` to ``high``: the interval at `CONFIDENCE`, NaN where there is too little to say.
    ``p``: two-sided, of no difference, where that was tested."""

    value: float
    low: float = math.nan
    high: float = math.nan
    p: float | None = None

    @property
    def is_apart(self) -> bool:
        """Whether the interval leaves out nought."""
        return self.low > 0 or self.high < 0

    def between(self, number: str | Callable[[float], str]) -> str:
        """The interval in brackets, by a format or function of a bound; "" where there is none."""
        if math.isnan(self.low):
            return ""
        one = number if callable(number) else ("{:" + number + "}").format
        return f"({one(self.low)} to {one(self.high)})"

    def to_json(self) -> dict[str, Any]:
        """NaN is null."""
        return {name: _finite(value) for name, value in vars(self).items()}


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def mean_of(rows: Floats) -> Floats:
    """Of the first column: (..., N, K) to (...)."""
    found: Floats = rows[..., 0].mean(-1)
    return found


def ratio_of(rows: Floats) -> Floats:
    """The sum of the first column over that of the second: a figure a token, say."""
    top, bottom = rows[..., 0].sum(-1), rows[..., 1].sum(-1)
    found: Floats = top / np.where(bottom == 0, np.inf, bottom)  # of nothing 0
    return found


def bootstrap(
    rows: npt.ArrayLike,
    statistic: Callable[[Floats], Floats] = mean_of,
    *,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """``statistic`` of ``rows`` (N, K) or (N,) with its interval. ``statistic``: (..., N, K) to
    (...)."""
    table = np.asarray(rows, np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if not len(table):
        return Estimate(math.nan)
    value = float(statistic(table))
    if len(table) < 2 or not math.isfinite(value):
        return Estimate(value)
    count = len(table)
    places = np.random.default_rng(seed).integers(0, count, (resamples, count))
    kept = ~np.eye(count, dtype=bool)
    without = np.broadcast_to(table, (count, *table.shape))[kept].reshape(count, count - 1, -1)
    return bca_interval(value, statistic(table[places]), statistic(without))


def bootstrap_places(
    count: int,
    statistic: Callable[[Sequence[int]], float],
    *,
    resamples: int = _FEW_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """As `bootstrap`, of a statistic of the rows at given places among ``count``, which cannot be
    computed for all resamples at once."""
    if not count:
        return Estimate(math.nan)
    value = statistic(range(count))
    if count < 2 or not math.isfinite(value):
        return Estimate(value)
    rng = np.random.default_rng(seed)
    drawn = [statistic(rng.integers(0, count, count).tolist()) for _ in range(resamples)]
    without = [statistic([j for j in range(count) if j != i]) for i in range(count)]
    return bca_interval(value, np.array(drawn), np.array(without))


def bca_interval(value: float, drawn: Floats, without: Floats) -> Estimate:
    """The interval of ``value`` from its values in resamples, ``drawn`` (R,), and with each row
    left out, ``without`` (N,)."""
    if drawn.min() == drawn.max():
        return Estimate(value, min(value, drawn[0]), max(value, drawn[0]))
    below = float(((drawn < value).mean() + (drawn <= value).mean()) / 2)
    if not 0 < below < 1:  # no correction is defined
        return _plain_interval(value, drawn)
    bias = _NORMAL.inv_cdf(below)
    pull = without.mean() - without
    largest = np.abs(pull).max()
    speed = 0.0
    if largest > 0:
        pull = pull / largest  # which no power of takes below the smallest float
        speed = float((pull**3).sum() / (6 * (pull**2).sum() ** 1.5))
    shares = []
    for tail in ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2):
        z = bias + _NORMAL.inv_cdf(tail)
        shares.append(_NORMAL.cdf(bias + z / (1 - speed * z)))
    if not all(map(math.isfinite, shares)):  # sums of the largest floats overflow
        return _plain_interval(value, drawn)
    return Estimate(value, *_quantiles(drawn, *shares))


def _plain_interval(value: float, drawn: Floats) -> Estimate:
    """The plain percentiles, and the value."""
    low, high = _quantiles(drawn, (1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)
    return Estimate(value, min(low, value), max(high, value))


def _quantiles(drawn: Floats, low: float, high: float) -> tuple[float, float]:
    found = np.quantile(drawn, [low, high])
    return float(found[0]), float(found[1])


def paired(base: npt.ArrayLike, other: npt.ArrayLike, *, seed: int = 0) -> Estimate:
    """The mean of ``other`` less that of ``base``, (N,) each, a prompt a place."""
    difference = np.asarray(other, np.float64) - np.asarray(base, np.float64)
    found = bootstrap(difference, seed=seed)
    return Estimate(found.value, found.low, found.high, sign_flip(difference, seed=seed))


def sign_flip(differences: npt.ArrayLike, *, draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p of a mean of nought, of ``differences`` (N,) that are then as often of either
    sign."""
    values = np.asarray(differences, np.float64)
    values = values[values != 0]
    if not len(values):
        return 1.0
    size = abs(float(values.sum()))
    slack = 1e-12 * float(np.abs(values).sum())  # sums in another order are the same sum
    if len(values) <= _EXACT:
        bits = np.arange(1 << len(values))[:, None] >> np.arange(len(values)) & 1
        return float((np.abs((1 - 2 * bits) @ values) >= size - slack).mean())
    signs = np.random.default_rng(seed).integers(0, 2, (draws, len(values))) * 2 - 1
    found = int((np.abs(signs @ values) >= size - slack).sum())
    return (found + 1) / (draws + 1)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p, of ``gained`` pairs where only the second has it and ``lost`` where only
    the first has."""
    total, least = gained + lost, min(gained, lost)
    tail: float = sum(math.comb(total, k) for k in range(least + 1)) / 2**total
    return min(1.0, 2 * tail)


def wilson(successes: float, total: int) -> Estimate:
    """A share with its interval. ``successes`` may have halves (ties): the interval is then wider
    than it need be, because a half varies less than a whole or none."""
    if not total:
        return Estimate(math.nan)
    share = successes / total
    z = _NORMAL.inv_cdf((1 + CONFIDENCE) / 2)
    scale = 1 + z * z / total
    middle = (share + z * z / (2 * total)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return Estimate(share, max(middle - half, 0.0), min(middle + half, 1.0))


def holm(p: Sequence[float]) -> list[float]:
    """``p``, adjusted so that those below a level are false alarms no oftener than that level,
    all tests together."""
    order = sorted(range(len(p)), key=lambda i: p[i])
    found, highest = [1.0] * len(p), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        found[index] = highest
    return found
