"""Rounded vectors keep their directions, and an index keeps its promises with them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lmstack.core import InputError, IntegrityError
from lmstack.rag import Index, IndexConfig
from lmstack.rag.catalogue.schema import pack_vectors, unpack_vectors

_MATRICES = st.tuples(st.integers(1, 5), st.integers(2, 20)).flatmap(
    lambda shape: arrays(np.float32, shape, elements=st.floats(-1, 1, width=32))
)


def unit(matrix):
    lengths = np.linalg.norm(matrix.astype(np.float64), axis=1, keepdims=True)
    return (matrix / np.where(lengths > 1e-6, lengths, np.inf)).astype(np.float32)


@settings(max_examples=150, deadline=None)
@given(matrix=_MATRICES.map(unit), form=st.sampled_from(["float32", "int8", "binary"]))
def test_reading_gives_near_directions_and_writing_again_the_same_bytes(matrix, form):
    data = pack_vectors(matrix, form)
    back = unpack_vectors(data, *matrix.shape)
    assert pack_vectors(back, form) == data
    some = matrix.any(axis=1)
    if form == "float32":
        np.testing.assert_array_equal(back, matrix)
    elif form == "int8":
        # Half a step of 1/127 of the largest number, in each dimension.
        bound = np.abs(matrix).max() * np.sqrt(matrix.shape[1]) / 127
        assert np.linalg.norm(back[some] - matrix[some], axis=1).max(initial=0) <= bound + 1e-6
    else:
        assert ((back > 0) == (matrix > 0)).all()
    if form != "binary":
        assert not back[~some].any()
    np.testing.assert_allclose(np.linalg.norm(back[some], axis=1), 1, atol=1e-5)


def test_bytes_of_no_form_are_refused():
    with pytest.raises(IntegrityError, match="vectors take 7 bytes"):
        unpack_vectors(b"1234567", 2, 8)


def test_int8_keeps_the_nearest_and_signs_most_of_them():
    random = np.random.default_rng(0)
    vectors = unit(random.normal(size=(2000, 256)).astype(np.float32))
    queries = unit(vectors[:50] + random.normal(size=(50, 256)).astype(np.float32) * 0.05)
    exact = np.argsort(-queries @ vectors.T, axis=1)[:, :10]
    recalls = {}
    for form in ("int8", "binary"):
        kept = unpack_vectors(pack_vectors(vectors, form), *vectors.shape)
        found = np.argsort(-queries @ kept.T, axis=1)[:, :10]
        recalls[form] = np.mean(
            [len(set(a) & set(b)) / 10 for a, b in zip(exact, found, strict=True)]
        )
        assert (found[:, 0] == exact[:, 0]).all()
    assert recalls["int8"] > 0.95
    assert recalls["binary"] > 0.4


@pytest.mark.parametrize(("form", "size"), [("float32", 256), ("int8", 64), ("binary", 8)])
def test_index_keeps_its_vectors_in_the_form_chosen(tmp_path, docs, embedder, form, size):
    with Index.open(tmp_path / "i", embedder, config=IndexConfig(vectors=form)) as index:
        index.update([docs])
        assert index.verify().ok
        found = index.search("eighteen nautical miles", 1, "dense")[0]
        assert found.path.endswith("lighthouse.txt")
        (docs / "more" / "lighthouse.txt").write_text("Its light was put out.")
        index.update()
        digest = index.content_digest()
        _, vectors = index.stored_passages()
        assert len(pack_vectors(vectors[:1], form)) == size
    with Index.open(tmp_path / "other", embedder, config=IndexConfig(vectors=form)) as fresh:
        fresh.update([docs])
        assert fresh.content_digest() == digest


def test_another_form_needs_a_rebuild(tmp_path, docs, embedder):
    with Index.open(tmp_path / "i", embedder) as index:
        index.update([docs])
    config = IndexConfig(vectors="int8")
    with pytest.raises(InputError, match="keeps its vectors as float32, not int8"):
        Index.open(tmp_path / "i", embedder, config=config)
    with Index.open(tmp_path / "i", embedder, config=config, rebuild=True) as index:
        index.update()
        assert index.verify().ok
    with Index.open(tmp_path / "i", embedder, config=config) as index:
        assert index.status(check=False).documents == 3
