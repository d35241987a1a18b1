"""What a task refuses names the option, or the input, that was at fault."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

import lmstack
from lmstack.core import LmstackError

from .conftest import Make

LONG = "ada works in london, " * 40
TAGGER = ("BertForTokenClassification", ("O", "B-X"))
CLASSIFIER = ("BertForSequenceClassification", ("a", "b"))
CROSS = ("BertForSequenceClassification", ("score",))
MASKED, ANSWERER = ("BertForMaskedLM", ()), ("BertForQuestionAnswering", ())


@pytest.mark.parametrize(
    ("task", "model", "item", "options", "param"),
    [
        ("question-answering", ANSWERER, "b", {}, "question"),
        ("question-answering", ANSWERER, {"question": "a", "context": ""}, {}, "context"),
        ("text-classification", CLASSIFIER, 3, {}, None),
        ("text-classification", CLASSIFIER, ["a", 3], {}, "input 1"),
        ("text-classification", CLASSIFIER, {"txt": "a"}, {}, "the input"),
        ("text-classification", CLASSIFIER, LONG, {}, "max_length"),
        ("text-classification", CLASSIFIER, "a", {"activation": "tanh"}, "activation"),
        ("text-classification", CLASSIFIER, "a", {"top_k": 0}, "top_k"),
        ("text-classification", CLASSIFIER, "a", {"topk": 1}, "topk"),
        ("token-classification", TAGGER, "a", {"aggregation": "best"}, "aggregation"),
        ("token-classification", TAGGER, LONG, {"aggregation": "none"}, "aggregation"),
        ("token-classification", TAGGER, "a", {"stride": -1}, "stride"),
        ("fill-mask", MASKED, "nothing missing", {}, "input"),
        ("fill-mask", MASKED, "a [MASK]", {"targets": ["lovelaces"]}, "targets"),
        ("fill-mask", MASKED, "a [MASK]", {"top_k": 0}, "top_k"),
        ("reranking", CROSS, ["a"], {}, "query"),
        ("sentence-embedding", ("BertModel", ()), "a", {"kind": "document"}, "kind"),
        ("reranking", CLASSIFIER, ["a"], {"query": "b"}, "task"),
        ("zero-shot-classification", CLASSIFIER, "a", {"labels": "b"}, "task"),
        ("summarise", CLASSIFIER, "a", {}, "task"),
        ("text-classification", CLASSIFIER, "a", {"weights": "int8"}, "weights"),
    ],
)
def test_a_refusal_names_what_was_at_fault(
    make: Make,
    task: str,
    model: tuple[str, tuple[str, ...]],
    item: Any,
    options: Mapping[str, Any],
    param: str | None,
) -> None:
    loaded = make(*model).ours
    with pytest.raises(LmstackError) as caught:
        lmstack.task(task, loaded, **options)(item)
    assert caught.value.param == param, caught.value


def test_a_model_that_is_none_is_refused_as_such() -> None:
    with pytest.raises(LmstackError) as caught:
        lmstack.task("ner", 3)  # type: ignore[arg-type]
    assert caught.value.param == "model"
