"""Exact search is exact to the last bit wherever a row stands; signs find nearly all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmstack.rag.retrieve.dense import (
    EXACT_ROWS,
    MIN_CANDIDATES,
    Dense,
    DenseSegment,
    distances,
    nearest_codes,
    sign_codes,
)


def unit(rows: int, dimensions: int, seed: int = 0) -> np.ndarray:
    matrix = np.random.default_rng(seed).standard_normal((rows, dimensions)).astype(np.float32)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def dense(*matrices: np.ndarray, places=None) -> Dense:
    size = sum(map(len, matrices))
    places = np.arange(size) if places is None else places
    return Dense([DenseSegment(matrix) for matrix in matrices], np.asarray(places, np.int32))


SIZES = st.tuples(st.integers(1, 60), st.sampled_from([1, 3, 64, 65, 384]), st.integers(0, 5))


@settings(deadline=None)
@given(SIZES, st.integers(1, 20))
def test_exact_search_finds_the_nearest(shape, depth):
    rows, dimensions, seed = shape
    matrix, query = unit(rows, dimensions, seed), unit(1, dimensions, 99)[0]
    found, scores = dense(matrix).search(query, depth)
    expected = np.sort(matrix.astype(np.float64) @ query)[::-1][:depth]
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    np.testing.assert_allclose(matrix[found] @ query, scores, atol=1e-6)


@settings(deadline=None)
@given(SIZES, st.data())
def test_a_row_has_the_same_cosine_wherever_it_stands(shape, data):
    rows, dimensions, seed = shape
    matrix, query = unit(rows, dimensions, seed), unit(1, dimensions, 99)[0]
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), bool)
    cut = data.draw(st.integers(0, rows))
    whole = dense(matrix[:cut], matrix[cut:]).search(query, rows, kept)
    alone = dense(matrix[kept]).search(query, rows)
    assert (whole[0] == np.flatnonzero(kept)[alone[0]]).all()
    assert (whole[1] == alone[1]).all()


@settings(deadline=None)
@given(SIZES, st.integers(1, 5))
def test_many_queries_at_once_are_searched_as_one_by_one(shape, depth):
    rows, dimensions, seed = shape
    ranking, queries = dense(unit(rows, dimensions, seed)), unit(7, dimensions, 98)
    for query, (found, scores) in zip(queries, ranking.search_many(queries, depth), strict=True):
        alone = ranking.search(query, depth)
        assert (found == alone[0]).all()
        assert (scores == alone[1]).all()


def test_copies_go_by_place_however_they_were_found():
    matrix = np.repeat(unit(4, 384), 50, axis=0)
    places = np.random.default_rng(1).permutation(200)
    ranking = dense(matrix[:77], matrix[77:], places=places)
    for approximate in ("never", "always"):
        rows, scores = ranking.search(matrix[0], 30, approximate=approximate)
        assert len(set(scores)) == 1
        assert list(places[rows]) == sorted(places[:50])[:30]


def test_nothing_allowed_is_nothing_found():
    ranking, query = dense(unit(10, 8)), unit(1, 8)[0]
    assert len(ranking.search(query, 5, np.zeros(10, bool))[0]) == 0
    assert len(dense(np.zeros((0, 8), np.float32)).search(query, 5)[0]) == 0


@pytest.mark.parametrize("dimensions", [1, 63, 64, 65, 384])
def test_distance_is_the_number_of_signs_that_differ(dimensions):
    matrix, query = unit(20_000, dimensions), unit(1, dimensions, 1)
    expected = ((matrix > 0) != (query > 0)).sum(axis=1)
    assert (distances(sign_codes(matrix), sign_codes(query)) == expected).all()


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=40), st.integers(1, 50))
def test_nearest_codes_are_the_nearest_with_all_equals(pairs, count):
    found = np.array([distance for distance, _ in pairs], np.uint16)
    allowed = np.array([yes for _, yes in pairs], bool)
    order = sorted(distance for distance, yes in pairs if yes)
    expected = [n for n, (d, yes) in enumerate(pairs) if yes and d <= order[:count][-1]]
    assert list(nearest_codes(found, count, allowed)) == expected


def clustered(rows: int) -> np.ndarray:
    """Rows about centres, as passages about subjects are."""
    dice = np.random.default_rng(0)
    centres = unit(200, 128)
    matrix = centres[dice.integers(0, 200, rows)] + 0.6 * unit(rows, 128, 1)
    return (matrix / np.linalg.norm(matrix, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    return clustered(EXACT_ROWS + 5000)


def test_signs_find_nearly_all_of_the_nearest_with_their_exact_cosines(large):
    ranking = dense(large[:20_000], large[20_000:])
    shares = []
    for query in large[::500]:
        exact = ranking.search(query, 10, approximate="never")
        signs = ranking.search(query, 10)
        shares.append(np.isin(exact[0], signs[0]).mean())
        assert np.isin(signs[1][np.isin(signs[0], exact[0])], exact[1]).all()
    assert np.mean(shares) >= 0.95


def test_many_rows_in_play_are_picked_by_signs_and_few_are_compared(large, monkeypatch):
    ranking = dense(large)
    picked = []
    pick = ranking._picked
    monkeypatch.setattr(ranking, "_picked", lambda *args: picked.append(1) or pick(*args))
    few = np.zeros(len(large), bool)
    few[:EXACT_ROWS] = True
    for allowed, approximate, signs in (
        (None, "auto", True),
        (None, "never", False),
        (few, "auto", False),
        (few, "always", True),
        (few & (np.arange(len(large)) < MIN_CANDIDATES), "always", False),
    ):
        picked.clear()
        ranking.search(large[0], 10, allowed, approximate)
        assert bool(picked) is signs


def test_hidden_rows_change_nothing_for_signs(large):
    seen = np.random.default_rng(3).random(len(large)) < 0.9
    view, alone = dense(large[:9000], large[9000:]), dense(large[seen])
    for query in large[:10]:
        rows, scores = view.search(query, 20, seen)
        expected = alone.search(query, 20)
        assert (rows == np.flatnonzero(seen)[expected[0]]).all()
        assert (scores == expected[1]).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_rows_within_rounding_of_the_last_place_are_judged_exactly(seed):
    dice = np.random.default_rng(seed)
    query = unit(1, 384, seed)[0]
    matrix = np.repeat(unit(1, 384, seed + 1), 300, axis=0)
    # Differences far below what a scan in single precision can tell apart.
    matrix[:, 0] += (dice.integers(-3, 4, 300) * np.spacing(matrix[0, 0])).astype(np.float32)
    rows, scores = dense(matrix).search(query, 20)
    every = np.einsum("ij,j->i", matrix, query)
    expected = np.lexsort((np.arange(300), -every))[:20]
    assert list(rows) == list(expected)
    assert (scores == every[expected]).all()
