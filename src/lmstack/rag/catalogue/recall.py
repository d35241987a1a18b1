"""How much of what an exact search finds does an approximate one find?

Passages of the index are the queries, each itself left out. Knows nothing about how either
search works.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Recall", "measure_recall"]

_K = 10
_QUERIES = 200
_RESAMPLES = 2000
# Cosines so near to that of the last place count as in it: single precision cannot tell them.
_TOLERANCE = 1e-5


@dataclass(frozen=True, slots=True)
class Recall:
    """Mean share of the true nearest ``k`` that was found, and its 95 % interval (bootstrap
    over queries)."""

    k: int
    queries: int
    mean: float
    low: float
    high: float


def measure_recall(
    find: Callable[[npt.NDArray[np.float32], int], Sequence[int]],
    ids: npt.NDArray[np.int64],
    vectors: npt.NDArray[np.float32],
    *,
    seed: int = 0,
) -> Recall | None:
    """``find(vector, k)`` gives the ids of the nearest, best first; ``vectors`` (N, D) are those
    of ``ids``. None where there are too few to ask for."""
    if len(ids) <= _K:
        return None
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(ids), min(_QUERIES, len(ids)), replace=False)
    shares = np.empty(len(chosen))
    for n, row in enumerate(chosen):
        scores = vectors @ vectors[row]
        scores[row] = -np.inf
        bar = np.partition(scores, len(scores) - _K)[len(scores) - _K] - _TOLERANCE
        good = set(ids[scores >= bar].tolist())
        found = [each for each in map(int, find(vectors[row], _K + 1)) if each != ids[row]]
        shares[n] = len(good.intersection(found[:_K])) / _K
    means = rng.choice(shares, (_RESAMPLES, len(shares))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Recall(_K, len(shares), float(shares.mean()), float(low), float(high))
