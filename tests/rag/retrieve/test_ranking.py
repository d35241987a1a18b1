"""The best of many rows: looking at groups of rows finds what sorting all of them does."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.retrieve.bm25 import GROUP, leading_rows
from lmstack.rag.retrieve.dense import best_rows


@given(
    st.integers(0, 40),
    st.integers(1, 12),
    st.integers(1, 30),
    st.floats(0, 1),
    st.integers(0, 2**32 - 1),
)
def test_leading_rows_hold_the_best_and_their_equals(groups, depth, kinds, share, seed):
    dice = np.random.default_rng(seed)
    size = groups * GROUP
    scores = dice.integers(1, kinds + 1, size).astype(np.float32) * (dice.random(size) < share)
    places = dice.permutation(size).astype(np.int32)
    rows = leading_rows(scores, depth)
    assert len(set(rows)) == len(rows)
    assert (scores[rows] > 0).all()
    found, _ = best_rows(rows, scores[rows], depth, places)
    order = np.lexsort((places, -scores))
    assert list(found) == list(order[scores[order] > 0][:depth])
