"""Images of tiny encoders: written under a lock or not at all, and read as the long way computes.

Not covered: real weights (`tests/serve/test_light_models.py`).
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.oracles import sentence_transformers

from lmstack.core import IntegrityError
from lmstack.engine import native_problem
from lmstack.registry import ModelFolder, Store, load
from lmstack.registry.home import locked
from lmstack.registry.signing import cache_key
from lmstack.registry.weight_cache import cached_file, delete_cached, image_file
from lmstack.serve import images, light_models
from lmstack.serve.embedder import LocalEmbedder
from lmstack.serve.images import keep_embedder, keep_reranker
from lmstack.serve.light_models import light_embedder, light_reranker
from lmstack.serve.tasks import LocalReranker

from .conftest import LIMIT, STEMS, TEXTS, Make

pytestmark = pytest.mark.skipif(bool(native_problem()), reason="no native ops here")

QUERY = "where is the first engine?"
# Some are cut, one spells a control token, and together they are more than one pack holds.
LONG = [f"{first} {second} works in london, " * 30 for first in STEMS[:6] for second in STEMS[:6]]
DOCUMENTS = [*TEXTS, "ada [SEP] london", *LONG]
# Scores as they are: a sigmoid makes large ones all alike.
RAW = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def cross(make: Make, store: Store) -> ModelFolder:
    made = make("BertForSequenceClassification", ("relevance",), **RAW)
    return store.resolve(made.folder)


@pytest.fixture(scope="module")
def unsegmented(make: Make, store: Store) -> ModelFolder:
    """A cross-encoder with a table of segments that it was trained without: its tokenizer counts
    segments but hands none over."""
    folder = make("BertForSequenceClassification", ("relevance",), **RAW).folder
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({**settings, "model_input_names": ["input_ids", "attention_mask"]}))
    return store.resolve(folder)


@pytest.fixture(scope="module")
def bert(make: Make, store: Store) -> ModelFolder:
    return store.resolve(make("BertModel").folder)


def kept_reranker(folder: ModelFolder, store: Store) -> LocalReranker:
    found = LocalReranker.load(folder, store, weights="int8", cut=True)
    keep_reranker(found, folder, "int8", store)
    return found


def kept_embedder(folder: ModelFolder, store: Store) -> LocalEmbedder:
    found = LocalEmbedder.load(folder, store, weights="int8")
    keep_embedder(found, folder, "int8", store)
    return found


def test_long_passages_and_spelled_control_tokens_get_the_scores_of_the_long_way(
    cross: ModelFolder, store: Store
) -> None:
    local = kept_reranker(cross, store)
    light = light_reranker(cross, "int8", store)
    assert light is not None
    found = light.score(QUERY, DOCUMENTS)
    np.testing.assert_allclose(found, local.score(QUERY, DOCUMENTS), rtol=1e-5, atol=1e-4)
    assert len(set(found.round(2))) > len(DOCUMENTS) / 2
    nothing = light.score(QUERY, [])
    assert (nothing.shape, nothing.dtype) == ((0,), found.dtype)
    assert light.info == local.info
    assert light.info.context_length == LIMIT


def test_a_query_longer_than_the_model_is_cut_as_well(cross: ModelFolder, store: Store) -> None:
    local = kept_reranker(cross, store)
    light = light_reranker(cross, "int8", store)
    assert light is not None
    asked = (QUERY * 20, [*TEXTS, TEXTS[0] * 20])
    np.testing.assert_allclose(light.score(*asked), local.score(*asked), rtol=1e-5, atol=1e-4)


def test_segments_that_a_tokenizer_hands_over_to_nobody_reach_no_model(
    cross: ModelFolder, unsegmented: ModelFolder, store: Store
) -> None:
    """On the reference ops, on the native ones and from an image."""
    passages = TEXTS
    theirs = sentence_transformers.CrossEncoder(str(unsegmented.path), device="cpu")
    expected = theirs.predict([(QUERY, passage) for passage in passages])
    floats = LocalReranker(load(unsegmented, store), cut=True).score(QUERY, passages)
    np.testing.assert_allclose(floats, expected, rtol=0, atol=1e-4)
    native = kept_reranker(unsegmented, store).score(QUERY, passages)
    light = light_reranker(unsegmented, "int8", store)
    assert light is not None
    np.testing.assert_allclose(light.score(QUERY, passages), native, rtol=1e-5, atol=1e-4)
    with_segments = kept_reranker(cross, store).score(QUERY, passages)
    assert np.linalg.norm(native - expected) < np.linalg.norm(with_segments - expected) / 3


@pytest.mark.parametrize("shape", [{}, {"max_tokens": 12}, {"dimensions": 8}], ids=str)
def test_vectors_of_an_image_are_bit_equal(
    bert: ModelFolder, store: Store, shape: dict[str, int]
) -> None:
    local = LocalEmbedder(kept_embedder(bert, store).loaded, **shape)
    light = light_embedder(bert, "int8", store, **shape)
    assert light is not None
    for kind in ("query", "passage"):
        np.testing.assert_array_equal(light.embed(TEXTS, kind), local.embed(TEXTS, kind))
    assert light.count_tokens(TEXTS) == local.count_tokens(TEXTS)
    assert (light.info, light.dimensions, light.max_tokens) == (
        local.info, local.dimensions, local.max_tokens,
    )  # fmt: skip


def test_there_is_none_of_a_form_that_was_never_loaded(
    bert: ModelFolder, cross: ModelFolder, store: Store, tmp_path: Path
) -> None:
    kept_embedder(bert, store)
    kept_reranker(cross, store)
    for light, folder in ((light_embedder, bert), (light_reranker, cross)):
        assert light(folder, "int8", store) is not None
        assert light(folder, None, store) is None
        assert light(folder, "q4", store) is None
        assert light(folder, "int8", Store(tmp_path)) is None


def test_without_native_ops_there_is_none(
    bert: ModelFolder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_embedder(bert, store)
    monkeypatch.setattr(light_models, "problem", lambda: "no compiler")
    assert light_embedder(bert, "int8", store) is None


def test_weights_that_changed_are_refused(
    bert: ModelFolder, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_embedder(bert, store)
    monkeypatch.setattr(type(store.hashes), "sha256", lambda self, path: "0" * 64)
    with pytest.raises(IntegrityError):
        light_embedder(bert, "int8", store)


def test_an_image_is_written_while_its_lock_is_held_and_replaces_an_older_one(
    bert: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that write one at a time, whichever form or model others write."""
    store, held = Store(tmp_path), []
    path = image_file(store.root, bert.digest, "int8")

    def noted(lock: Path) -> Any:
        held.append(lock)
        return locked(lock)

    def written(*given: Any) -> None:
        target, _, weights, stamp, key = given
        assert key == cache_key(store.root)
        assert (target, weights) == (path, cached_file(store.root, bert.digest, "int8"))
        assert (stamp["model"], stamp["form"]) == (bert.digest, "int8")
        held.append(target)

    embedder = LocalEmbedder.load(bert, store, weights="int8")
    monkeypatch.setattr(images, "locked", noted)
    monkeypatch.setattr(images, "write_image", written)
    keep_embedder(embedder, bert, "int8", store)
    assert held == [store.root / "locks" / f"{path.name}.lock", path]


def test_what_cannot_be_written_is_only_logged(
    bert: ModelFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(tmp_path / "home")
    embedder = LocalEmbedder.load(bert, store, weights="int8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "locks").write_text("in the way")
    with caplog.at_level(logging.INFO, "lmstack.serve"):
        keep_embedder(embedder, bert, "int8", Store(tmp_path / "full"))
    assert f"{bert.name} has no image: " in caplog.text
    assert light_embedder(bert, "int8", store) is None


def test_a_model_of_floats_has_no_image(
    bert: ModelFolder, cross: ModelFolder, store: Store
) -> None:
    keep_embedder(LocalEmbedder.load(bert, store, weights="float32"), bert, "float32", store)
    keep_reranker(LocalReranker.load(cross, store), cross, "float32", store)
    for folder in (bert, cross):
        assert not image_file(store.root, folder.digest, "float32").exists()


USUAL: Mapping[str, Any] = {
    "head": "sequence", "pooling": "first", "activation": "tanh",
    "classifier": torch.nn.Linear(4, 1), "transform": torch.nn.Linear(4, 4), "norm": None,
}  # fmt: skip


def reranker_with(**changes: Any) -> Any:
    """What `keep_reranker` reads of a reranker: BERT's head but for ``changes``."""
    facts = SimpleNamespace(**{**USUAL, **changes})
    config = SimpleNamespace(head=facts.head, pooling=facts.pooling, transform=facts.activation)
    module = SimpleNamespace(
        config=config,
        classifier=facts.classifier,
        transform=facts.transform,
        transform_norm=facts.norm,
    )
    loaded = SimpleNamespace(module=module)
    return SimpleNamespace(encoder=SimpleNamespace(loaded=loaded, native=object()))


@pytest.fixture
def heads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The heads of which images were to be written."""
    kept: list[Any] = []
    monkeypatch.setattr(images, "_keep", lambda _native, head, *_: kept.append(head))
    return kept


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "token"},
        {"pooling": "mean"},
        {"activation": "gelu"},
        {"classifier": None},
        {"norm": torch.nn.LayerNorm(4)},
    ],
    ids=str,
)
def test_a_head_that_images_do_not_compute_has_none(
    bert: ModelFolder, store: Store, heads: list[Any], changes: Mapping[str, Any]
) -> None:
    keep_reranker(reranker_with(**changes), bert, "int8", store)
    assert heads == []


@pytest.mark.parametrize("changes", [{}, {"transform": None}, {"transform": None, "activation": 0}])
@pytest.mark.parametrize("biased", [True, False])
def test_a_head_is_kept_layer_by_layer_with_zeros_for_a_bias_that_it_has_not(
    bert: ModelFolder, store: Store, heads: list[Any], changes: Mapping[str, Any], biased: bool
) -> None:
    classifier = torch.nn.Linear(4, 2, bias=biased).half()
    given = reranker_with(**changes, classifier=classifier)
    keep_reranker(given, bert, "int8", store)
    [head] = heads
    expected = {"classifier.weight": classifier.weight.detach().float().numpy()}
    bias = classifier.bias.detach().float().numpy() if biased else np.zeros(2, np.float32)
    expected["classifier.bias"] = bias
    if "transform" not in changes:
        layer = USUAL["transform"]
        expected["transform.weight"] = layer.weight.detach().numpy()
        expected["transform.bias"] = layer.bias.detach().numpy()
    assert sorted(head) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(head[name], array)
        assert head[name].dtype == np.float32


def test_removing_a_model_removes_its_image(bert: ModelFolder, tmp_path: Path) -> None:
    path = image_file(tmp_path, bert.digest, "int8")
    path.parent.mkdir(parents=True)
    path.touch()
    delete_cached(tmp_path, bert.digest)
    assert not path.exists()


def test_embedding_and_reranking_load_no_torch(
    bert: ModelFolder, cross: ModelFolder, store: Store
) -> None:
    kept_embedder(bert, store)
    kept_reranker(cross, store)
    script = f"""
import sys
from pathlib import Path
from lmstack.registry import Store
from lmstack.serve.light_models import light_embedder, light_reranker
store = Store(Path({str(store.root)!r}))
light_embedder(store.resolve({str(bert.path)!r}), "int8", store).embed(["a b c"])
light_reranker(store.resolve({str(cross.path)!r}), "int8", store).score("a", ["b"])
print([name for name in ("torch", "fastapi", "jinja2") if name in sys.modules])
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
