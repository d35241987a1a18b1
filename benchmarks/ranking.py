"""How good rankings are: the measures that are reported, with intervals and paired tests.

The measures are those of `lmstack.evals.metrics.retrieval`, of the first ten. Intervals: percentile
bootstrap over queries. Tests: Fisher's randomisation of the signs of the differences (Smucker,
Allan and Carterette 2007), adjusted for several comparisons by Holm's step-down.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from lmstack.evals.metrics.retrieval import ndcg, recall, reciprocal_rank

__all__ = ["METRICS", "holm", "interval", "p_value"]

RESAMPLES, PERMUTATIONS, SEED = 2000, 10_000, 0
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
