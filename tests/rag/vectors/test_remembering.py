"""Remembered vectors are those of the embedder, and no text is computed twice."""

from __future__ import annotations

import threading

import numpy as np
import pytest
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


def test_texts_are_embedded_ahead_once_and_the_vectors_are_the_same(embedder, make_embedder):
    remembering = RememberingEmbedder(embedder)
    remembering.embed(["a"])
    remembering.look_ahead(lambda: ["a", "b", "c", "b", *"defghij"])
    remembering.look_ahead(lambda: ["c", "k"])
    assert remembering.wait(20)
    assert sorted(embedder.embedded) == list("abcdefghijk")
    assert np.array_equal(remembering.embed(["c", "k"]), make_embedder().embed(["c", "k"]))
    assert sorted(embedder.embedded) == list("abcdefghijk")


def test_nothing_is_embedded_ahead_while_somebody_asks(embedder):
    asked, free = threading.Event(), threading.Event()

    class Slow(type(embedder)):
        def embed(self, texts, kind="passage"):
            if texts == ["question"]:
                asked.set()
                assert free.wait(20)
            return super().embed(texts, kind)

    slow = Slow()
    remembering = RememberingEmbedder(slow)
    asking = threading.Thread(target=remembering.embed, args=(["question"],))
    asking.start()
    assert asked.wait(20)
    remembering.look_ahead(lambda: ["a", "b"])
    assert not remembering.wait(0.5)
    assert slow.embedded == []
    free.set()
    asking.join()
    assert remembering.wait(20)
    assert sorted(slow.embedded) == ["a", "b", "question"]


def test_an_embedder_that_fails_ahead_is_heard_of_by_whoever_asks(embedder):
    class Broken(type(embedder)):
        def embed(self, texts, kind="passage"):
            raise ValueError("out of order")

    remembering = RememberingEmbedder(Broken())
    remembering.look_ahead(lambda: ["a"])
    assert remembering.wait(20)
    with pytest.raises(ValueError, match="out of order"):
        remembering.embed(["a"])


def test_closed_it_looks_no_further_ahead(embedder):
    remembering = RememberingEmbedder(embedder)
    remembering.close()
    remembering.look_ahead(lambda: ["a"])
    assert remembering.wait(0)
    assert embedder.embedded == []
