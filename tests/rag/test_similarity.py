"""Similarities are those of scipy, and near-duplicates those of single linkage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import cdist

from lmstack.core import InputError
from lmstack.rag.embedding_map import duplicate_groups, similarities

_VALUES = st.floats(-100, 100, width=32).map(lambda x: 0.0 if abs(x) < 1e-3 else x)


def _matrices(rows):
    return arrays(np.float64, (rows, 5), elements=_VALUES)


@settings(max_examples=60, deadline=None)
@given(left=_matrices(4), right=_matrices(3))
def test_similarities_are_those_of_scipy(left, right):
    np.testing.assert_allclose(
        similarities(left, right, "euclidean"), -cdist(left, right), rtol=1e-12, atol=1e-12
    )
    np.testing.assert_allclose(similarities(left, right, "dot"), left @ right.T, rtol=1e-12)
    alike = similarities(left, right, "cosine")
    some = np.outer(left.any(axis=1), right.any(axis=1))
    with np.errstate(invalid="ignore", divide="ignore"):
        np.testing.assert_allclose(
            alike[some], 1 - cdist(left, right, "cosine")[some], rtol=1e-9, atol=1e-9
        )
    assert not alike[~some].any()


def test_near_vectors_keep_their_distance_in_single_precision():
    left = np.full((1, 384), 100, np.float32)
    right = left.copy()
    right[0, 0] += np.float32(0.01)
    found = similarities(left, right, "euclidean")
    assert found.dtype == np.float32
    assert found[0, 0] == pytest.approx(-0.01, rel=1e-2)


@pytest.mark.parametrize(
    ("left", "right", "metric"),
    [((2, 3), (2, 4), "dot"), ((3,), (3,), "dot"), ((2, 3), (2, 3), "cosin")],
)
def test_what_cannot_be_compared_is_refused(left, right, metric):
    with pytest.raises(InputError):
        similarities(np.ones(left), np.ones(right), metric)


@settings(max_examples=60, deadline=None)
@given(
    vectors=arrays(np.float64, (12, 3), elements=st.floats(-1, 1, width=16)).filter(
        lambda v: np.linalg.norm(v, axis=1).min() > 0.1
    ),
    threshold=st.sampled_from([0.3, 0.8, 0.95]),
)
def test_duplicates_are_the_groups_of_single_linkage(vectors, threshold):
    distances = 1 - similarities(vectors, vectors)
    close = np.abs(distances - (1 - threshold)) < 1e-9
    if close.any():
        return
    tree = linkage(np.maximum(distances[np.triu_indices(12, 1)], 0), "single")
    labels = fcluster(tree, 1 - threshold, "distance")
    expected = [np.flatnonzero(labels == n).tolist() for n in dict.fromkeys(labels)]
    assert duplicate_groups(vectors, threshold) == [g for g in expected if len(g) > 1]


def test_duplicates_are_found_across_blocks(monkeypatch):
    monkeypatch.setattr("lmstack.rag.embedding_map._ROWS", 3)
    vectors = np.eye(8)
    vectors[7] = vectors[0]
    vectors[5] = vectors[2]
    assert duplicate_groups(vectors, 0.9) == [[0, 7], [2, 5]]
