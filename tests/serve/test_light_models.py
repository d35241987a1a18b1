"""The embedder and the reranker without torch: they say what the long way says.

Without real weights: `tests/serve/tasks/test_images.py`.
"""

from __future__ import annotations

import numpy as np
import pytest

from lmstack.core import InputError
from lmstack.engine import native_problem
from lmstack.registry import ModelFolder, Store
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.images import keep_embedder, keep_reranker
from lmstack.serve.light_models import light_embedder, light_reranker
from lmstack.serve.tasks import LocalReranker

pytestmark = [
    pytest.mark.weights,
    pytest.mark.long,
    pytest.mark.skipif(bool(native_problem()), reason="no native ops here"),
]

TEXTS = ["?", "漢字 🙂", "Letters are kept for ten years.", "the tower's lighthouse keepers " * 60]
QUERY = "How long are letters kept?"


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return Store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def embedder(minilm: ModelFolder, store: Store) -> LocalEmbedder:
    found = LocalEmbedder.load(minilm, store, weights="int8")
    keep_embedder(found, minilm, "int8", store)
    return found


@pytest.fixture(scope="module")
def local_reranker(reranker: ModelFolder, store: Store) -> LocalReranker:
    found = LocalReranker.load(reranker, store, weights="int8", cut=True)
    keep_reranker(found, reranker, "int8", store)
    return found


def test_vectors_are_bit_equal_and_have_the_same_name(embedder, minilm, store):
    light = light_embedder(minilm, "int8", store)
    for kind in ("query", "passage"):
        np.testing.assert_array_equal(light.embed(TEXTS, kind), embedder.embed(TEXTS, kind))
    assert light.count_tokens(TEXTS) == embedder.count_tokens(TEXTS)
    assert (light.info, light.dimensions, light.max_tokens, light.counts_by_word) == (
        embedder.info, embedder.dimensions, embedder.max_tokens, embedder.counts_by_word,
    )  # fmt: skip


def test_another_shape_is_another_model(embedder, minilm, store):
    light = light_embedder(minilm, "int8", store, max_tokens=16, dimensions=128)
    local = LocalEmbedder(embedder.loaded, max_tokens=16, dimensions=128)
    np.testing.assert_array_equal(light.embed(TEXTS), local.embed(TEXTS))
    assert light.info == local.info
    with pytest.raises(InputError, match="dimensions"):
        light_embedder(minilm, "int8", store, dimensions=385)


def test_passages_get_the_same_scores(local_reranker, reranker, store):
    light = light_reranker(reranker, "int8", store)
    np.testing.assert_allclose(
        light.score(QUERY, TEXTS), local_reranker.score(QUERY, TEXTS), rtol=0, atol=1e-5
    )
    assert light.score(QUERY, []).shape == (0,)
    assert light.info == local_reranker.info
