"""How good rankings are: nDCG, recall and reciprocal rank, with intervals and paired tests.

One relevant document is as good as another. nDCG: Jarvelin and Kekalainen 2002, with the discount
1 / log2(rank + 1), as trec_eval has it. Intervals: percentile bootstrap over queries. Tests:
Fisher's randomisation of the signs of the differences (Smucker, Allan and Carterette 2007),
adjusted for several comparisons by Holm's step-down.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = [
    "METRICS",
    "auc",
    "auc_difference",
    "holm",
    "interval",
    "ndcg",
    "p_value",
    "recall",
    "reciprocal_rank",
]

Floats = npt.NDArray[np.float64]
RESAMPLES, PERMUTATIONS, SEED = 2000, 10_000, 0


def ndcg(ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int = 10) -> float:
    """``relevant`` is not empty; ``ranking`` holds nothing twice."""
    gain = sum(1 / math.log2(n + 1) for n, each in enumerate(ranking[:k], 1) if each in relevant)
    best = sum(1 / math.log2(n + 1) for n in range(1, min(len(relevant), k) + 1))
    return gain / best


def recall(ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int = 10) -> float:
    """The share of ``relevant`` among the first ``k``."""
    return sum(each in relevant for each in ranking[:k]) / len(relevant)


def reciprocal_rank(
    ranking: Sequence[Hashable], relevant: Collection[Hashable], k: int = 10
) -> float:
    """Of the first relevant one, 0 if it is not among the first ``k``."""
    return next((1 / n for n, each in enumerate(ranking[:k], 1) if each in relevant), 0.0)


METRICS = {"ndcg@10": ndcg, "recall@10": recall, "mrr@10": reciprocal_rank}


def interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """Of the mean over queries."""
    array = np.asarray(values, np.float64)
    chance = np.random.default_rng(SEED)
    means = [array[chance.integers(0, len(array), len(array))].mean() for _ in range(RESAMPLES)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def p_value(differences: npt.ArrayLike) -> float:
    """How often a mean difference this large comes by chance, in either direction."""
    array = np.asarray(differences, np.float64)
    seen = abs(array.sum())
    chance = np.random.default_rng(SEED)
    as_large = 0
    for start in range(0, PERMUTATIONS, 1000):
        signs = chance.choice([-1.0, 1.0], size=(min(1000, PERMUTATIONS - start), len(array)))
        as_large += int((np.abs(signs @ array) >= seen - 1e-12).sum())
    return (as_large + 1) / (PERMUTATIONS + 1)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Adjusted, in the order given: each may be compared with the level that all are to keep."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    adjusted, least = {}, 0.0
    for place, name in enumerate(ordered):
        least = max(least, min(1.0, (len(ordered) - place) * p_values[name]))
        adjusted[name] = least
    return {name: adjusted[name] for name in p_values}


def auc(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> tuple[float, float, float]:
    """How often a positive has the higher score than a negative, a tie counting half, with its
    95 % interval (DeLong, DeLong and Clarke-Pearson 1988)."""
    parts = _placements(positives, negatives)
    area = float(parts[0].mean())
    half = 1.96 * math.sqrt(_variance(parts))
    return area, max(0.0, area - half), min(1.0, area + half)


def auc_difference(
    before: tuple[npt.ArrayLike, npt.ArrayLike], after: tuple[npt.ArrayLike, npt.ArrayLike]
) -> tuple[float, float]:
    """How much larger the area of ``after`` is than that of ``before``, each the scores of the same
    positives and negatives, and the p value of that in either direction (DeLong, for paired
    areas)."""
    pairs = zip(_placements(*after), _placements(*before), strict=True)
    parts = [new - old for new, old in pairs]
    difference, variance = float(parts[0].mean()), _variance(parts)
    if variance == 0:
        return difference, 1.0 if difference == 0 else 0.0
    return difference, math.erfc(abs(difference) / math.sqrt(2 * variance))


def _placements(positives: npt.ArrayLike, negatives: npt.ArrayLike) -> list[Floats]:
    """Of each positive the share of negatives below it; of each negative, of positives above."""
    above, below = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    wins = (above[:, None] > below[None]) + 0.5 * (above[:, None] == below[None])
    return [wins.mean(axis) for axis in (1, 0)]


def _variance(parts: Sequence[Floats]) -> float:
    return sum(float(part.var(ddof=1)) / len(part) for part in parts if len(part) > 1)
