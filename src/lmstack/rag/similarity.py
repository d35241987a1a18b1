"""How alike vectors are: cosine, dot product and Euclidean distance behind one function.

Higher is more alike for every metric: the Euclidean distance is negated. Shapes: N, M vectors of D
dimensions. Covers the exact computation on arrays, near-duplicates included; `dense` searches.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, check_range, nearest, shown

__all__ = ["Metric", "duplicate_groups", "similarities"]

Metric = Literal["cosine", "dot", "euclidean"]
Floats = npt.NDArray[np.floating]
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
    parent = np.arange(len(vectors))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = int(parent[row])
        return row

    for start in range(0, len(vectors), _ROWS):
        block = vectors[start : start + _ROWS] @ vectors[start:].T
        for row, column in np.argwhere(np.triu(block >= threshold, 1)).tolist():
            low, high = sorted((root(start + row), root(start + column)))
            parent[high] = low
    groups: dict[int, list[int]] = {}
    for row in range(len(vectors)):
        groups.setdefault(root(row), []).append(row)
    return [group for group in groups.values() if len(group) > 1]
