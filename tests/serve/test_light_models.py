"""The embedder and the reranker without torch: they say what the long way says."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from lmstack.core import InputError, IntegrityError
from lmstack.engine import native_problem
from lmstack.registry import ModelFolder, Store
from lmstack.registry.packed import discard_packed, image_file
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.images import keep_embedder, keep_reranker
from lmstack.serve.light_models import light_embedder, light_reranker
from lmstack.serve.tasks import LocalReranker

pytestmark = [
    pytest.mark.weights,
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


def test_there_is_none_of_a_form_that_was_never_loaded(embedder, minilm, store, tmp_path):
    assert light_embedder(minilm, None, store) is None
    assert light_embedder(minilm, "q4", store) is None
    assert light_embedder(minilm, "int8", Store(tmp_path)) is None


def test_weights_that_changed_are_refused(embedder, minilm, store, monkeypatch):
    monkeypatch.setattr(type(store.hashes), "sha256", lambda self, path: "0" * 64)
    with pytest.raises(IntegrityError):
        light_embedder(minilm, "int8", store)


def test_removing_a_model_removes_its_image(embedder, minilm, store, tmp_path):
    root = tmp_path / "home"
    path = image_file(root, minilm.digest, "int8")
    path.parent.mkdir(parents=True)
    path.touch()
    discard_packed(root, minilm.digest)
    assert not path.exists()


def test_embedding_and_reranking_load_no_torch(embedder, local_reranker, minilm, reranker, store):
    script = f"""
import sys
from pathlib import Path
from lmstack.registry import Store
from lmstack.serve.light_models import light_embedder, light_reranker
store, models = Store(Path({str(store.root)!r})), Store(Path({str(minilm.path.parent.parent)!r}))
light_embedder(models.resolve({minilm.name!r}), "int8", store).embed(["a b c"])
light_reranker(models.resolve({reranker.name!r}), "int8", store).score("a", ["b"])
print([name for name in ("torch", "fastapi", "jinja2") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
