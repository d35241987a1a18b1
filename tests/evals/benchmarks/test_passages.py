"""HellaSwag and BoolQ."""

from __future__ import annotations

import json

import pytest
from tests.evals.benchmarks.models import (
    HashedLikelihoods,
    likelihood_subject,
    output_of,
    prompts_of,
)

from lmstack.core import FormatError
from lmstack.evals.benchmarks.passages import (
    boolq,
    boolq_samples,
    hellaswag,
    hellaswag_samples,
    without_artifacts,
)

SWAG = {
    "activity_label": "Baking",
    "ctx_a": "A cook [header] enters.",
    "ctx_b": "the Oven",
    "endings": ["is hot [title] and on [step] now.", "flies.", "sings  softly.", "ends."],
    "label": "2",
    "source_id": "wikihow~1",
}
BOOL = {"question": "is it so", "passage": "It is so.", "answer": True, "title": "So"}


def data(*rows: object) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode()


def test_artifacts_are_taken_out_in_the_harness_order() -> None:
    assert without_artifacts(" a [title] b [x] c  ") == "a. b c"
    assert without_artifacts("a [title]") == "a. "


def test_a_context_is_label_and_both_parts_the_second_capitalized() -> None:
    task = hellaswag(hellaswag_samples(data(SWAG)), source="s")
    assert prompts_of(task) == ["Baking: A cook enters. The oven"]
    (sample,) = task.dataset.samples
    assert sample.choices[0] == "is hot. and on now."
    assert (sample.gold, sample.cluster) == ((2,), "wikihow~1")
    model = HashedLikelihoods()
    output_of(task, likelihood_subject(model))
    assert [continuation for _, continuation in model.asked] == [f" {c}" for c in sample.choices]


def test_hellaswag_puts_the_normalized_accuracy_first() -> None:
    task = hellaswag(hellaswag_samples(data(SWAG)), source="s")
    assert [metric.name for metric in task.metrics[:2]] == ["acc_norm", "acc"]


@pytest.mark.parametrize(
    ("context", "query"),
    [
        ("A man waves. another Man", "Baking: A man waves. Another man"),
        ("A man waves. He sits.", "Baking: A man waves. He sits."),
        ("no sentence", "Baking: no sentence"),
    ],
)
def test_a_joined_context_is_parted_at_its_last_full_stop(context: str, query: str) -> None:
    row = {"activity_label": "Baking", "ctx": context, "endings": ["a", "b"], "expected_index": 1}
    (sample,) = hellaswag_samples(data(row))
    assert sample.text.rstrip() == query
    assert sample.metadata == {"context": "parted at its last full stop"}


@pytest.mark.parametrize("label", ["", "4", None])
def test_a_label_that_names_no_ending_is_an_error(label: object) -> None:
    with pytest.raises(FormatError, match="row 1 of HellaSwag"):
        hellaswag_samples(data({**SWAG, "label": label}))


def test_boolq_asks_after_the_passage() -> None:
    task = boolq(boolq_samples(data(BOOL, {**BOOL, "answer": False})), source="s")
    yes, no = task.dataset.samples
    assert prompts_of(task)[0] == "It is so.\nQuestion: is it so?\nAnswer:"
    assert (yes.gold, no.gold, yes.cluster == no.cluster) == ((1,), (0,), True)
    model = HashedLikelihoods()
    output_of(task, likelihood_subject(model))
    assert [continuation for _, continuation in model.asked] == [" no", " yes"]


@pytest.mark.parametrize(("answer", "gold"), [(True, 1), ("False", 0), (0, 0), ("1", 1)])
def test_answers_may_be_truth_values_texts_or_numbers(answer: object, gold: int) -> None:
    (sample,) = boolq_samples(data({**BOOL, "answer": answer}))
    assert sample.gold == (gold,)


def test_a_question_without_a_label_is_an_error() -> None:
    with pytest.raises(FormatError, match="row 1 of BoolQ"):
        boolq_samples(data({**BOOL, "answer": None}))


def test_endings_without_a_source_stand_alone() -> None:
    for row in ({**SWAG, "source_id": None}, {k: v for k, v in SWAG.items() if k != "source_id"}):
        (sample,) = hellaswag_samples(data(row))
        assert sample.cluster == ""


@pytest.mark.parametrize("end", [".", "!", "?"])
def test_a_context_that_ends_a_sentence_has_no_second_part(end: str) -> None:
    row = {"activity_label": "B", "ctx": f"One. two{end} ", "endings": ["a", "b"], "label": 0}
    (sample,) = hellaswag_samples(data(row))
    assert sample.text.rstrip() == f"B: One. two{end}"


@pytest.mark.parametrize("label", [-1, 4, "x", 1.5, True])
def test_a_place_that_is_none_of_the_endings_is_refused(label: object) -> None:
    with pytest.raises(FormatError, match="row 2 of HellaSwag"):
        hellaswag_samples(data(SWAG, {**SWAG, "label": label}))
    last = hellaswag_samples(data({**SWAG, "label": 3}))[0]
    assert (last.gold, last.targets, last.id) == ((3,), ("ends.",), "hellaswag/0")


def test_passages_are_tasks_with_their_names_and_metrics() -> None:
    swag = hellaswag(hellaswag_samples(data(SWAG, SWAG)), source="s")
    assert [metric.name for metric in swag.metrics][:2] == ["acc_norm", "acc"]
    assert len(swag.metrics) == 4
    bool_q = boolq(boolq_samples(data(BOOL)), source="s")
    assert [metric.name for metric in bool_q.metrics] == ["acc", "ece"]
    for task, name in ((swag, "hellaswag"), (bool_q, "boolq")):
        assert (task.name, task.dataset.name, task.dataset.source) == (name, name, "s")
    (sample,) = bool_q.dataset.samples
    assert (sample.id, sample.targets, sample.choices) == ("boolq/0", ("yes",), ("no", "yes"))
    assert len(sample.cluster) == 16
    labelled = {key: value for key, value in BOOL.items() if key != "answer"} | {"label": 0}
    assert boolq_samples(data(labelled))[0].gold == (0,)
