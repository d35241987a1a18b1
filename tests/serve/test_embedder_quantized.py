"""An embedder of small integers: near the floats, natively, and the same whoever else is asked."""

from __future__ import annotations

import logging
import random

import numpy as np
import pytest

from lmstack.core import UnsupportedError
from lmstack.engine import executors, native_problem
from lmstack.engine.cpu.executor import NativeEncoder
from lmstack.engine.torch.executor import TorchEncoder
from lmstack.serve.embedder import LocalEmbedder

pytestmark = pytest.mark.weights

WORDS = (
    *("river", "stone", "index", "passage", "answer", "light", "engine", "window", "quietly"),
    *("seventeen", "lighthouse", "keepers", "nobody", "gradient", "tokens,", "(really)", "1844"),
    *("48-metre", "tower's", "e.g.", "décor", "über", "漢字", "🙂", "the", "a", "of", "under"),
)


def texts(count, seed=0):
    chooser = random.Random(seed)
    counts = [1, 2, 3, 5, 8, 13, 21, 34]
    return [" ".join(chooser.choices(WORDS, k=chooser.choice(counts))) for _ in range(count)]


@pytest.fixture(scope="module")
def embedder(minilm):
    return LocalEmbedder.load(minilm, weights="int8")


def test_each_vector_has_nearly_the_direction_of_that_of_the_floats(embedder, minilm):
    sample = ["?", "漢", *texts(80)]
    cosines = (
        embedder.embed(sample) * LocalEmbedder.load(minilm, weights="float32").embed(sample)
    ).sum(axis=1)
    assert cosines.min() >= 0.99
    assert cosines.mean() >= 0.995


@pytest.mark.skipif(bool(native_problem()), reason="no native ops here")
def test_a_vector_is_bit_equal_alone_and_in_any_company(embedder):
    sample = texts(40, seed=1)
    together, backwards = embedder.embed(sample), embedder.embed(sample[::-1])
    np.testing.assert_array_equal(together, backwards[::-1])
    for row in (0, 7, 39):
        np.testing.assert_array_equal(together[row], embedder.embed([sample[row]])[0])


@pytest.mark.skipif(bool(native_problem()), reason="no native ops here")
def test_small_integers_are_computed_with_natively(embedder):
    assert isinstance(executors.open_encoder(embedder.module), NativeEncoder)


def test_without_native_ops_the_reference_gives_nearly_the_same(embedder, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise UnsupportedError("no native ops")

    monkeypatch.setattr(NativeEncoder, "__init__", refuse)
    with caplog.at_level(logging.WARNING, "lmstack.engine"):
        reference = LocalEmbedder(embedder.loaded)
    assert "slowly" in caplog.text
    sample = texts(6, seed=2)
    assert (reference.embed(sample) * embedder.embed(sample)).sum(axis=1).min() > 0.995


def test_floats_stay_with_the_reference(minilm):
    module = LocalEmbedder.load(minilm, weights="float32").module
    assert isinstance(executors.open_encoder(module), TorchEncoder)


def test_the_form_is_part_of_what_names_the_vectors(embedder, minilm):
    assert embedder.info.digest == f"{minilm.digest}+int8"
