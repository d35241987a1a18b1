"""How far the length of answers alone says which one was preferred.

A reward model learns whatever tells the chosen answer from the rejected one, and length often does
(Singhal et al. 2023, arXiv:2310.03716). The figure is how often the longer answer was chosen, which
is the accuracy of a reward that counts characters; its interval allows for pairs of one prompt
being alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

__all__ = ["LengthBias", "clustered_interval"]

_Z = 1.959963984540054  # of 95 %
_FURTHEST = 4  # log2 of the ratio: 1/16 and 16
_BINS = np.linspace(-_FURTHEST, _FURTHEST, 33)
_SIZES = 5
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class LengthBias:
    """``longer``: the share of pairs in which the longer answer was chosen, equal ones half;
    ``low`` and ``high``: its 95 % interval. ``ratio``: the median of the chosen answer's length
    over the rejected one's. ``edges``, ``bars``: the histogram of the log2 of that ratio.
    ``sizes``: (least factor between both lengths, pairs, share of the longer) for fifths of the
    pairs, those most alike in length first."""

    pairs: int = 0
    longer: float = 0.5
    low: float = 0.0
    high: float = 1.0
    ratio: float = 1.0
    edges: Sequence[float] = ()
    bars: Sequence[int] = ()
    sizes: Sequence[tuple[float, int, float]] = ()

    @property
    def is_found(self) -> bool:
        """Whether the interval leaves out one half."""
        return not self.low <= 0.5 <= self.high

    @classmethod
    def of(cls, chosen: Sequence[int], rejected: Sequence[int], prompts: Sequence[int]) -> Self:
        """``chosen``, ``rejected``: lengths in characters; ``prompts``: which prompt a pair is
        of, by number."""
        if not len(chosen):
            return cls()
        ratio = np.log2((np.array(chosen) + 1) / (np.array(rejected) + 1))
        won = (np.sign(ratio) + 1) / 2
        low, high = clustered_interval(won, np.array(prompts))
        bars, edges = np.histogram(ratio.clip(-_FURTHEST, _FURTHEST), _BINS)
        return cls(
            pairs=len(won),
            longer=float(won.mean()),
            low=low,
            high=high,
            ratio=float(2 ** np.median(ratio)),
            edges=edges.tolist(),
            bars=bars.tolist(),
            sizes=_by_size(ratio, won),
        )

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


def clustered_interval(values: Floats, clusters: npt.NDArray[Any]) -> tuple[float, float]:
    """The 95 % interval of the mean of ``values`` in [0, 1], those of a cluster not independent.

    Wilson's score interval at the effective sample size, which is the variance of independent
    values over that between clusters (Korn and Graubard 1998); where no value differs from the
    others the number of clusters."""
    mean, count = float(values.mean()), len(values)
    _, inverse = np.unique(clusters, return_inverse=True)
    groups = int(inverse.max()) + 1
    totals = np.bincount(inverse, values - mean)
    between = float((totals**2).sum()) / count**2 * groups / max(groups - 1, 1)
    size = min(mean * (1 - mean) / between, count) if between > 0 else groups
    return _wilson(mean, max(size, 1.0))


def _wilson(mean: float, size: float) -> tuple[float, float]:
    spread = _Z * (mean * (1 - mean) / size + _Z**2 / (4 * size**2)) ** 0.5
    middle, scale = mean + _Z**2 / (2 * size), 1 + _Z**2 / size
    return max((middle - spread) / scale, 0.0), min((middle + spread) / scale, 1.0)


def _by_size(ratio: Floats, won: Floats) -> tuple[tuple[float, int, float], ...]:
    order = np.argsort(np.abs(ratio), kind="stable")
    parts = [part for part in np.array_split(order, _SIZES) if len(part)]
    return tuple(
        (float(2 ** np.abs(ratio[part[0]])), len(part), float(won[part].mean())) for part in parts
    )
