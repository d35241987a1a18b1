"""Tasks over small integers: natively, near the same weights on the reference ops."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from lmstack.engine import native_problem
from lmstack.engine.cpu.executor import NativeEncoder
from lmstack.engine.torch.executor import TorchEncoder
from lmstack.registry import load
from lmstack.serve.tasks import LocalReranker, encoder
from lmstack.serve.tasks.encoder import TaskEncoder

from .conftest import TEXTS, Make

ARCHITECTURES = (
    "BertForSequenceClassification",
    "BertForTokenClassification",
    "BertForMaskedLM",
    "RobertaForSequenceClassification",
    "RobertaForTokenClassification",
)
needs_native = pytest.mark.skipif(bool(native_problem()), reason="no native ops here")


def both(
    make: Make, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> tuple[TaskEncoder, TaskEncoder]:
    """The native one, and one on the reference ops."""
    labels = () if architecture.endswith("LM") else ("a", "b", "c")
    loaded = load(make(architecture, labels).folder, weights="int8")
    native = TaskEncoder(loaded)
    assert isinstance(native.native, NativeEncoder)
    monkeypatch.setattr(encoder, "open_encoder", TorchEncoder)
    reference = TaskEncoder(loaded)
    assert reference.native is None
    return native, reference


@needs_native
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_near_those_of_the_same_weights_on_the_reference(
    make: Make, monkeypatch: pytest.MonkeyPatch, architecture: str
) -> None:
    native, reference = both(make, monkeypatch, architecture)
    texts = (*TEXTS[:2], *TEXTS[3:4], "he wrote", "she and he in London")
    windows = native.encode_whole(texts * 2, ["a", "in Paris", "ada", "", "he"] * 2)
    found, expected = native.logits(windows), reference.logits(windows)
    assert [each.shape for each in found] == [each.shape for each in expected]
    ours, theirs = (torch.cat([each.flatten() for each in some]) for some in (found, expected))
    # Random weights this large make much of what activations lose; other texts' scores are
    # further off than 1.
    assert float((ours - theirs).norm() / theirs.norm()) < 0.15


@needs_native
def test_tokens_that_others_may_not_attend_to_are_left_out(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    native, reference = both(make, monkeypatch, "BertModel")
    windows = native.encode_whole(TEXTS)
    visible = [max(1, len(window) - 3) for window in windows]
    found = native.hidden(windows, visible)
    for ours, theirs in zip(found, reference.hidden(windows, visible), strict=True):
        torch.testing.assert_close(ours, theirs)


@needs_native
def test_one_is_made_while_others_compute(make: Make) -> None:
    loaded = load(make("BertForTokenClassification", ("a", "b", "c")).folder, weights="int8")
    first = TaskEncoder(loaded)
    windows = first.encode_whole(TEXTS)
    expected, wrong = first.logits(windows), []

    def compute() -> None:
        for _ in range(20):
            found = first.logits(windows)
            wrong.extend(1 for a, b in zip(found, expected, strict=True) if not a.equal(b))

    threads = [threading.Thread(target=compute) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert TaskEncoder(loaded).native is not None
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.weights
def test_a_reranker_of_small_integers_ranks_as_the_floats(reranker) -> None:
    passages = [
        "The tower was built from stone in 1844.",
        "A cache keeps what was computed before.",
        "Lighthouse keepers lived in the tower until 1971.",
        "Prices rose by two percent.",
    ]
    query = "Who lived in the lighthouse?"
    floats, small = (
        LocalReranker.load(reranker, weights=form).score(query, passages)
        for form in ("float32", "int8")
    )
    assert np.argsort(floats).tolist() == np.argsort(small).tolist()
    np.testing.assert_allclose(small, floats, atol=0.3)
