"""Remembered vectors are those of the embedder, and no text is computed twice."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lmstack.rag.vectors.remembering import RememberingEmbedder

TEXTS = st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=6), max_size=8)


@given(calls=TEXTS, size=st.integers(1, 9))
def test_equal_to_the_embedder_whatever_was_asked_before(make_embedder, calls, size):
    remembering = RememberingEmbedder(make_embedder(), size)
    for texts in calls:
        assert np.array_equal(remembering.embed(texts), make_embedder().embed(texts))
        assert len(remembering._vectors) <= size


def test_a_text_is_computed_once_of_each_kind(embedder):
    remembering = RememberingEmbedder(embedder)
    remembering.embed(["a", "b", "a"])
    remembering.embed(["b", "c"])
    assert embedder.embedded == ["a", "b", "c"]
    remembering.embed(["a"], "query")
    assert embedder.embedded[-1] == "a"
    assert (remembering.num_asked, remembering.num_computed) == (6, 4)
