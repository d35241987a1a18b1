"""Text and zero-shot classification equal transformers' pipelines on the same weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lmstack
from lmstack.core import ContextLengthError, InputError, UnsupportedError
from lmstack.serve.tasks.classification import MAX_LABELS, ZeroShotOptions, probabilities

from .conftest import TEXTS, Both, Make

PAIR = {"text": "Ada works in London", "text_pair": "where is the engine"}
LABELS = ("joy", "anger", "fear")


@pytest.fixture(scope="module")
def bert(make: Make) -> Both:
    return make("BertForSequenceClassification", LABELS)


@pytest.fixture(scope="module")
def nli(make: Make) -> Both:
    return make("BertForSequenceClassification", ("contradiction", "neutral", "entailment"))


def pairs_of(labels: Any) -> list[tuple[str, float]]:
    return [(each.label, pytest.approx(each.score, abs=1e-5)) for each in labels]


@pytest.mark.parametrize("function", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("top_k", [1, 2, None])
def test_labels_and_scores_are_those_of_transformers(
    bert: Both, function: str, top_k: int | None
) -> None:
    expected = bert.pipeline("text-classification")(
        [*TEXTS, PAIR], top_k=top_k, function_to_apply=function
    )
    ours = lmstack.task("text-classification", bert.ours, activation=function, top_k=top_k)
    for found, theirs in zip(ours([*TEXTS, PAIR]), expected, strict=True):
        assert [(e["label"], e["score"]) for e in theirs] == pairs_of(found.labels)


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        (LABELS, {}),
        (LABELS, {"problem_type": "multi_label_classification"}),
        (("score",), {"problem_type": "regression"}),
        (("score",), {}),
    ],
)
def test_the_activation_is_what_the_model_was_trained_for(
    make: Make, labels: tuple[str, ...], settings: dict[str, str]
) -> None:
    both = make("BertForSequenceClassification", labels, **settings)
    expected = both.pipeline("text-classification")(TEXTS[0], top_k=None)
    found = lmstack.task("sentiment-analysis", both.ours)(TEXTS[0], top_k=None)
    assert [(e["label"], e["score"]) for e in expected] == pairs_of(found.labels)


def test_a_text_that_is_too_long_is_refused_or_cut(bert: Both) -> None:
    ours = lmstack.task("classify", bert.ours)
    text = "ada works in london " * 40
    with pytest.raises(ContextLengthError, match="the model sees 64"):
        ours(text)
    [expected] = bert.pipeline("text-classification")(text, truncation=True)
    found = ours(text, truncate=True)
    assert (expected["label"], expected["score"]) == pairs_of(found.labels)[0]


@given(st.lists(st.floats(-1000, 1000, width=32), min_size=1, max_size=6))
def test_probabilities_never_overflow(logits: list[float]) -> None:
    with np.errstate(over="raise", invalid="raise"):
        given_logits = np.array(logits, np.float32)
        soft = probabilities(given_logits, "softmax")
        sigmoid = probabilities(given_logits, "sigmoid")
    assert soft.sum() == pytest.approx(1, abs=1e-5)
    assert ((sigmoid >= 0) & (sigmoid <= 1)).all()


CANDIDATES = ("green fields", "engine", "paris", "a note")


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("labels", [CANDIDATES, CANDIDATES[:1], "engine, paris"])
@pytest.mark.parametrize("template", ["This example is {}.", "it was {} and"])
def test_zero_shot_scores_are_those_of_transformers(
    nli: Both, multi_label: bool, labels: Any, template: str
) -> None:
    given_labels = labels if isinstance(labels, str) else list(labels)
    expected = nli.pipeline("zero-shot-classification")(
        list(TEXTS), given_labels, multi_label=multi_label, hypothesis_template=template
    )
    ours = lmstack.task("zero-shot", nli.ours, labels=labels, multi_label=multi_label)
    for found, theirs in zip(ours(TEXTS, template=template), expected, strict=True):
        assert list(zip(theirs["labels"], theirs["scores"], strict=True)) == pairs_of(found.labels)


@pytest.mark.parametrize("order", [("entailment", "neutral", "contradiction"), ("no", "Entail")])
def test_the_class_for_entailment_is_found_by_its_name(make: Make, order: tuple[str, ...]) -> None:
    both = make("BertForSequenceClassification", order)
    expected = both.pipeline("zero-shot-classification")(
        TEXTS[0], list(CANDIDATES), multi_label=True
    )
    found = lmstack.task("zero-shot", both.ours, labels=CANDIDATES, multi_label=True)(TEXTS[0])
    assert list(zip(expected["labels"], expected["scores"], strict=True)) == pairs_of(found.labels)


def test_of_a_long_text_the_hypothesis_is_never_cut(nli: Both) -> None:
    text = "ada works in london " * 40
    expected = nli.pipeline("zero-shot-classification")(text, list(CANDIDATES))
    found = lmstack.task("zero-shot", nli.ours, labels=CANDIDATES)(text)
    assert list(zip(expected["labels"], expected["scores"], strict=True)) == pairs_of(found.labels)


@pytest.mark.parametrize("template", ["no place", "{} and {}", "{0}", "{label}"])
def test_a_template_needs_one_place_for_the_label(nli: Both, template: str) -> None:
    with pytest.raises(InputError, match="the template is") as caught:
        lmstack.task("zero-shot", nli.ours, labels="a", template=template)
    assert caught.value.param == "template"


def test_without_labels_there_is_nothing_to_choose_from(nli: Both) -> None:
    with pytest.raises(InputError, match="no labels") as caught:
        lmstack.task("zero-shot", nli.ours)(TEXTS[0])
    assert caught.value.param == "labels"


def test_labels_are_bounded() -> None:
    assert len(ZeroShotOptions(labels=("a",) * MAX_LABELS).labels) == MAX_LABELS
    with pytest.raises(InputError, match=f"{MAX_LABELS + 1} labels") as caught:
        ZeroShotOptions(labels=("a",) * (MAX_LABELS + 1))
    assert caught.value.param == "labels"


def test_a_model_without_entailment_says_what_it_can_do(bert: Both) -> None:
    with pytest.raises(UnsupportedError) as caught:
        lmstack.task("zero-shot", bert.ours)
    assert caught.value.hint == "it can do text-classification, feature-extraction"
