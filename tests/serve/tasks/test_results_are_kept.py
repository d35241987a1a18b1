"""What a model returned stays what it was when the model is asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lmstack.registry import load
from lmstack.serve import LocalEmbedder
from lmstack.serve.tasks.encoder import TaskEncoder
from lmstack.serve.tasks.reranking import CrossEncoder

from .conftest import TEXTS, Make

Asked = Callable[[str], Any]


def vectors(make: Make, form: str) -> Asked:
    embedder = LocalEmbedder(load(make("BertModel").folder, weights=form))
    return lambda text: embedder.embed([text, "ada"])


def scores(make: Make, form: str) -> Asked:
    folder = make("BertForSequenceClassification", ("relevant",)).folder
    reranker = CrossEncoder(load(folder, weights=form))
    return lambda text: reranker.score([("who works in London?", text), ("ada", text)])


def logits(make: Make, form: str) -> Asked:
    encoder = TaskEncoder(load(make("BertForTokenClassification", ("a", "b")).folder, weights=form))
    return lambda text: encoder.logits(encoder.encode_whole([text, "ada"]))


def hidden(make: Make, form: str) -> Asked:
    encoder = TaskEncoder(load(make("BertModel").folder, weights=form))
    return lambda text: encoder.hidden(encoder.encode_whole([text, "ada"]))


@pytest.mark.parametrize("form", ["float32", "int8"])
@pytest.mark.parametrize("kind", [vectors, scores, logits, hidden])
def test_a_later_call_does_not_change_an_earlier_result(
    make: Make, kind: Callable[[Make, str], Asked], form: str
) -> None:
    ask = kind(make, form)
    first = ask(TEXTS[0])
    kept = [np.asarray(part).copy() for part in first]
    for text in TEXTS[1:]:
        ask(text)
    for part, copy in zip(first, kept, strict=True):
        np.testing.assert_array_equal(part, copy)
