"""Clusters that are there are found; the silhouette is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from tests.oracles import cluster as sklearn_cluster
from tests.oracles import metrics

from lmstack.core import InputError
from lmstack.rag.embedding_map import cluster, distinctive_words, project, silhouette


def blobs(count, each=30, seed=0, noise=0.05):
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count, 8))
    truth = np.repeat(np.arange(count), each)
    points = centres[truth] + noise * random.normal(size=(count * each, 8))
    order = random.permutation(len(points))
    return points[order], truth[order]


@pytest.mark.parametrize("count", [2, 5, 9])
def test_the_number_of_clusters_is_found_and_so_are_they(count):
    points, truth = blobs(count)
    found = cluster(points)
    assert len(found.centres) == count
    assert metrics.adjusted_rand_score(truth, found.labels) == 1


@pytest.mark.parametrize("seed", range(3))
def test_spread_is_no_worse_than_scikit_learns(seed):
    points = np.random.default_rng(seed).normal(size=(120, 4))
    reference = sklearn_cluster.KMeans(6, n_init=4, random_state=seed).fit(points).inertia_
    found = cluster(points, 6)
    assert found.spread <= 1.05 * reference
    own = ((points - found.centres[found.labels]) ** 2).sum()
    assert found.spread == pytest.approx(own)


def test_silhouette_is_scikit_learns():
    points, truth = blobs(4, noise=0.8)
    assert silhouette(points, truth) == pytest.approx(metrics.silhouette_score(points, truth))
    lonely = truth.copy()
    lonely[0] = 7
    assert silhouette(points, lonely) == pytest.approx(metrics.silhouette_score(points, lonely))


def test_labels_begin_with_the_largest_and_do_not_depend_on_chance():
    points = np.concatenate([blobs(1, 5, seed=1)[0], blobs(1, 20, seed=2)[0]])
    first, again = cluster(points, 2), cluster(points, 2)
    assert np.bincount(first.labels).tolist() == [20, 5]
    np.testing.assert_array_equal(first.labels, again.labels)


@pytest.mark.parametrize(
    ("points", "count", "clusters"),
    [
        (np.ones((5, 3)), 3, 1),
        (np.ones((5, 3)), None, 1),
        (np.eye(1, 3), None, 1),
        (np.eye(2, 3), None, 1),
        (np.eye(3, 3), 3, 3),
    ],
)
def test_few_or_equal_vectors_make_few_clusters(points, count, clusters):
    found = cluster(points, count)
    assert len(found.centres) == clusters
    assert np.isfinite(found.centres).all()


@pytest.mark.parametrize("count", [0, 6, 2.5])
def test_impossible_numbers_of_clusters_are_refused(count):
    with pytest.raises(InputError):
        cluster(np.eye(5), count)


def test_words_tell_a_cluster_from_the_others():
    texts = ["the whale swims", "a whale in the sea", "the train stops", "the station, a train"]
    words = distinctive_words(texts, np.array([0, 0, 1, 1]), 2)
    assert [w[0] for w in words] == ["whale", "train"]
    assert all("the" not in w for w in words)


def test_principal_axes_are_those_of_the_covariance():
    points, _ = blobs(3)
    plane, method = project(points, "pca")
    assert method == "pca"
    centred = points - points.mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred)[::-1][:2]
    np.testing.assert_allclose((plane**2).sum(axis=0), values)


def test_map_keeps_neighbours_and_does_not_depend_on_chance():
    points, truth = blobs(3, each=15)
    plane, method = project(points)
    assert method == "tsne"
    np.testing.assert_array_equal(plane, project(points)[0])
    distances = np.linalg.norm(plane[:, None] - plane, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (truth[distances.argmin(axis=1)] == truth).mean() > 0.95


@pytest.mark.parametrize("count", [0, 1, 2, 9])
def test_few_vectors_have_a_map(count):
    points, method = project(np.eye(9)[:count])
    assert points.shape == (count, 2)
    assert method == "pca"
