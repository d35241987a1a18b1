"""Groups of vectors that belong together, and words that tell one group from the others.

k-means with k-means++ (Arthur and Vassilvitskii, 2007) on unit vectors, several starts, seeded;
the number of clusters by the silhouette (Rousseeuw, 1987) where none is given. Covers what fits in
memory, as `similarity` does.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_whole

__all__ = ["Clusters", "cluster", "silhouette", "telling_words"]

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]
_STARTS, _ROUNDS = 10, 100
# The silhouette compares all pairs; of more vectors a sample is taken.
_SAMPLE = 1500
_MOST_AUTO = 20
_WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass(frozen=True)
class Clusters:
    """``labels`` (N,) from 0, the largest cluster first; ``centres`` (K, D); ``score``: the
    silhouette, from -1 to 1, 0 for one cluster; ``spread``: sum of squared distances."""

    labels: Ints
    centres: Floats
    score: float
    spread: float


def cluster(vectors: Floats, count: int | None = None, seed: int = 0) -> Clusters:
    """``count`` clusters of ``vectors`` (N, D); without it, the number from 2 to 20 with the best
    silhouette. The same input gives the same clusters."""
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2 or not len(vectors):
        raise InputError(f"there is nothing to cluster: {vectors.shape}", param="vectors")
    distinct = len(np.unique(vectors, axis=0))
    if count is not None:
        check_whole("clusters", count, 1, len(vectors))
        return _best_of_starts(vectors, min(count, distinct), seed)
    most = min(_MOST_AUTO, distinct, len(vectors) - 1)
    if most < 2:
        return _best_of_starts(vectors, 1, seed)
    tried = [_best_of_starts(vectors, number, seed) for number in range(2, most + 1)]
    return max(tried, key=lambda found: found.score)


def _best_of_starts(vectors: Floats, count: int, seed: int) -> Clusters:
    random = np.random.default_rng(seed)
    found = [_k_means(vectors, count, random) for _ in range(_STARTS)]
    labels, centres, spread = min(found, key=lambda f: f[2])
    order = np.argsort(-np.bincount(labels, minlength=count), kind="stable")
    labels = np.argsort(order)[labels]
    return Clusters(labels, centres[order], silhouette(vectors, labels, seed), spread)


def _k_means(
    vectors: Floats, count: int, random: np.random.Generator
) -> tuple[Ints, Floats, float]:
    centres = _first_centres(vectors, count, random)
    labels = np.full(len(vectors), -1, np.int64)
    for _ in range(_ROUNDS):
        distances = _squared(vectors, centres)
        nearest = distances.argmin(axis=1)
        for empty in np.setdiff1d(np.arange(count), nearest):
            # A cluster that lost all takes the vector that is worst off.
            nearest[distances[np.arange(len(vectors)), nearest].argmax()] = empty
        if (nearest == labels).all():
            break
        labels = nearest
        centres = np.stack([vectors[labels == c].mean(axis=0) for c in range(count)])
    spread = float(_squared(vectors, centres)[np.arange(len(vectors)), labels].sum())
    return labels, centres, spread


def _first_centres(vectors: Floats, count: int, random: np.random.Generator) -> Floats:
    """Each further centre is drawn with the squared distance to those before as its weight."""
    chosen = [int(random.integers(len(vectors)))]
    while len(chosen) < count:
        weights = _squared(vectors, vectors[chosen]).min(axis=1)
        weights[chosen] = 0
        total = weights.sum()
        share = weights / total if total > 0 else None
        chosen.append(int(random.choice(len(vectors), p=share)))
    return vectors[chosen]


def _squared(vectors: Floats, centres: Floats) -> Floats:
    """(N, K): squared distances, never below 0."""
    square = (vectors**2).sum(axis=1)[:, None] + (centres**2).sum(axis=1)
    result: Floats = np.maximum(square - 2 * vectors @ centres.T, 0)
    return result


def silhouette(vectors: Floats, labels: Ints, seed: int = 0) -> float:
    """The mean over vectors of (b - a) / max(a, b): a is the mean distance to the others of its
    cluster, b that to the nearest other cluster. Over a sample where there are many."""
    vectors = np.asarray(vectors, np.float64)
    if len(vectors) > _SAMPLE:
        rows = np.random.default_rng(seed).choice(len(vectors), _SAMPLE, replace=False)
        vectors, labels = vectors[rows], labels[rows]
    names, labels = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return 0.0
    member = np.eye(len(names))[labels]
    distances = np.sqrt(_squared(vectors, vectors))
    np.fill_diagonal(distances, 0)
    sums, sizes = distances @ member, member.sum(axis=0)
    own = sizes[labels]
    rows = np.arange(len(vectors))
    inside = sums[rows, labels] / np.maximum(own - 1, 1)
    means = sums / sizes
    means[rows, labels] = np.inf
    outside = means.min(axis=1)
    top = np.maximum(inside, outside)
    values = np.divide(outside - inside, top, out=np.zeros_like(top), where=top > 0)
    return float(np.where(own > 1, values, 0).mean())


def telling_words(texts: Sequence[str], labels: Ints, count: int = 3) -> list[tuple[str, ...]]:
    """For each cluster the words that most raise the odds of being in it: the share of its texts
    that hold a word, times how rare that is elsewhere (class-based TF-IDF, as BERTopic's)."""
    bags = [set(_WORD.findall(text.lower())) for text in texts]
    clusters = range(int(labels.max()) + 1 if len(labels) else 0)
    held = [
        Counter(w for bag, label in zip(bags, labels, strict=True) if label == c for w in bag)
        for c in clusters
    ]
    sizes = np.bincount(labels, minlength=len(held))
    everywhere = Counter(word for bag in bags for word in bag)
    result = []
    for number, words in enumerate(held):
        outside = len(texts) - int(sizes[number])
        scored = {
            word: n / sizes[number] * math.log((1 + outside) / (1 + everywhere[word] - n))
            for word, n in words.items()
        }
        best = sorted(scored, key=lambda word: (-scored[word], word))[:count]
        result.append(tuple(word for word in best if scored[word] > 0))
    return result
