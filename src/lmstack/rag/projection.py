"""Vectors on a plane, for a picture: t-SNE (van der Maaten and Hinton, 2008) from scikit-learn,
which the extra ``maps`` brings, else the two principal axes. The same vectors give the same map.
"""

from __future__ import annotations

import importlib.util
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, require, shown

__all__ = ["Projection", "project"]

Projection = Literal["tsne", "pca"]
Floats = npt.NDArray[np.floating]


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
