"""Vectors of passages or texts compared, grouped and drawn; all of them fit in memory.

Clusters: k-means with k-means++ (Arthur and Vassilvitskii, 2007), several starts, seeded; their
number by the silhouette (Rousseeuw, 1987) where none is given. Maps: t-SNE (van der Maaten and
Hinton, 2008) from scikit-learn, which the extra ``maps`` brings, else the two principal axes. The
same vectors give the same clusters and the same map.
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_range, check_whole, nearest, require, shown
from lmstack.rag.disjoint_sets import DisjointSets

__all__ = [
    "Clusters",
    "Metric",
    "Projection",
    "cluster",
    "distinctive_words",
    "duplicate_groups",
    "project",
    "silhouette",
    "similarities",
]

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


def distinctive_words(texts: Sequence[str], labels: Ints, count: int = 3) -> list[tuple[str, ...]]:
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


Projection = Literal["tsne", "pca"]


def project(
    vectors: Floats, method: Projection | None = None, seed: int = 0
) -> tuple[Floats, Projection]:
    """(N, D) to (N, 2), and the method used: the one given, else the best that is installed."""
    vectors = np.asarray(vectors, np.float64)
    if vectors.ndim != 2:
        raise InputError(f"vectors have the shape {vectors.shape}", param="vectors")
    if method is not None and method not in get_args(Projection):
        raise InputError(f"method is {shown(method)}", hint="tsne or pca", param="method")
    if method is None:
        # Of fewer points t-SNE shows nothing.
        is_there = importlib.util.find_spec("sklearn") is not None
        method = "tsne" if is_there and len(vectors) >= 10 else "pca"
    return (_tsne(vectors, seed) if method == "tsne" else _pca(vectors)), method


def _pca(vectors: Floats) -> Floats:
    """Each axis points where its largest coordinate is positive, so that signs are not chance."""
    if not len(vectors):
        return np.zeros((0, 2))
    centred = vectors - vectors.mean(axis=0)
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    count = min(2, len(values))
    points[:, :count] = left[:, :count] * values[:count]
    largest = points[np.abs(points).argmax(axis=0), [0, 1]]
    signed: Floats = points * np.where(largest < 0, -1, 1)
    return signed


def _tsne(vectors: Floats, seed: int) -> Floats:
    make = require("sklearn.manifold", "maps").TSNE
    perplexity = max(1.0, min(30.0, (len(vectors) - 1) / 3))
    points: Floats = make(
        n_components=2, init="pca", perplexity=perplexity, random_state=seed, metric="cosine"
    ).fit_transform(vectors)
    return points


Metric = Literal["cosine", "dot", "euclidean"]
# Rows compared at a time: bounds the memory that a large collection takes.
_ROWS = 1024


def similarities(left: Floats, right: Floats, metric: Metric = "cosine") -> Floats:
    """(N, D) and (M, D) to (N, M), in the wider of the two precisions. ``cosine`` of a zero
    vector with anything is 0; ``euclidean`` is minus the distance."""
    if metric not in get_args(Metric):
        guess = nearest(str(metric), get_args(Metric))
        raise InputError(
            f"metric is {shown(metric)}",
            hint=f"did you mean {guess!r}?" if guess else "cosine, dot or euclidean",
            param="metric",
        )
    left, right = np.asarray(left), np.asarray(right)
    if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[1]:
        raise InputError(
            f"vectors of the shapes {left.shape} and {right.shape} cannot be compared",
            hint="two matrices with as many columns",
            param="vectors",
        )
    if metric == "dot":
        return left @ right.T
    if metric == "cosine":
        return _unit(left) @ _unit(right).T
    # By differences and not by the expanded square, which loses all digits between near vectors.
    rows = [np.linalg.norm(right - vector, axis=1) for vector in left]
    return -np.stack(rows) if rows else np.zeros((0, len(right)), left.dtype)


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = vectors / np.where(lengths > 0, lengths, 1)
    return unit


def duplicate_groups(vectors: Floats, threshold: float) -> list[list[int]]:
    """Rows that are alike by cosine at ``threshold`` or more, directly or through others: each
    group ascending and of two at least, groups by their first row."""
    check_range("threshold", threshold, -1, 1)
    vectors = _unit(np.asarray(vectors))
    sets = DisjointSets(len(vectors))
    for start in range(0, len(vectors), _ROWS):
        block = vectors[start : start + _ROWS] @ vectors[start:].T
        for row, column in np.argwhere(np.triu(block >= threshold, 1)).tolist():
            sets.join(start + row, start + column)
    groups: dict[int, list[int]] = {}
    for row in range(len(vectors)):
        groups.setdefault(sets.root(row), []).append(row)
    return [group for group in groups.values() if len(group) > 1]
