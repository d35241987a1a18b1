"""Names of tasks: transformers' and short ones; a model that cannot do one says what it can."""

from __future__ import annotations

import pytest
import transformers.pipelines

import lmstack
from lmstack.core import InputError, NotFoundError, UnsupportedError
from lmstack.serve.tasks import ALIASES, TASKS, task_name

from .conftest import Make

# Of sound and of tables.
OTHERS = ("text-to-audio", "table-question-answering")
# In transformers until version 5, and asked for by these names still.
REMOVED = ("question-answering", "summarization", "translation", "text2text-generation")


def test_every_text_task_of_transformers_is_known() -> None:
    text = [
        name
        for name, entry in transformers.pipelines.SUPPORTED_TASKS.items()
        if entry["type"] == "text" and name not in OTHERS
    ]
    known = {task_name(name)[0] for name in [*text, *REMOVED, "ner", "sentiment-analysis"]}
    assert len(text) >= 5
    assert known <= set(TASKS)


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_stands_for_a_task(alias: str) -> None:
    assert task_name(alias) == (ALIASES[alias], {})
    assert ALIASES[alias] in TASKS


def test_a_translation_may_name_its_languages() -> None:
    assert task_name("translation_en_to_de") == ("translation", {"source": "en", "target": "de"})


def test_an_unknown_task_names_the_nearest() -> None:
    with pytest.raises(InputError) as caught:
        lmstack.task("summarisation", "any")
    assert caught.value.hint == "did you mean 'summarization'?"
    with pytest.raises(InputError, match="no task 'qqqq'"):
        lmstack.task("qqqq", "any")


@pytest.mark.parametrize(
    ("architecture", "labels", "can"),
    [
        ("BertModel", (), "feature-extraction, sentence-embedding"),
        ("BertForMaskedLM", (), "fill-mask, feature-extraction"),
        ("BertForTokenClassification", ("a", "b"), "token-classification, feature-extraction"),
        ("BertForQuestionAnswering", (), "question-answering, feature-extraction"),
        ("BertForSequenceClassification", ("a", "b"), "text-classification, feature-extraction"),
        (
            "BertForSequenceClassification",
            ("score",),
            "text-classification, feature-extraction, reranking",
        ),
        (
            "BertForSequenceClassification",
            ("no", "entailed"),
            "text-classification, feature-extraction, zero-shot-classification",
        ),
    ],
)
def test_a_model_says_what_it_can_do(
    make: Make, architecture: str, labels: tuple[str, ...], can: str
) -> None:
    loaded = make(architecture, labels).ours
    with pytest.raises(UnsupportedError, match="cannot do summarization") as caught:
        lmstack.task("summarization", loaded)
    assert caught.value.hint == f"it can do {can}"
    for task in can.split(", "):
        lmstack.task(task, loaded)


def test_a_folder_is_a_model(make: Make) -> None:
    both = make("BertForTokenClassification", ("O", "X"))
    found = lmstack.task("ner", both.folder)("ada")
    assert found == lmstack.task("ner", both.ours)("ada")


def test_a_model_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        lmstack.task("ner", "no-such-model")


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(InputError, match="the model is 3"):
        lmstack.task("ner", 3)
