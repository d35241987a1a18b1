"""TruthfulQA by choice and by generation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.evals.benchmarks.models import prompts_of

from lmstack.core import FormatError, InputError, Likelihood
from lmstack.evals.benchmarks.truthfulqa import (
    DifferenceScorer,
    mc1_samples,
    mc2_samples,
    truthfulqa_gen,
    truthfulqa_mc1,
    truthfulqa_mc2,
    written_samples,
)
from lmstack.evals.task import Output

ORIGINAL = {
    "question": "Is it?",
    "mc1_targets": {"Yes.": 1, "No.": 0},
    "mc2_targets": {"Yes.": 1, "It is.": 1, "No.": 0},
}
HUB = {
    "question": "Is it?",
    "mc1_targets": {"choices": ["Yes.", "No."], "labels": [1, 0]},
    "mc2_targets": {"choices": ["Yes.", "It is.", "No."], "labels": [1, 1, 0]},
}
LUCE = {"question": "Is it?", "choices": ["No.", "Yes."], "expected_index": 1}
WRITTEN = {
    "question": " Is it? ",
    "correct_answers": ["Yes", " It is. ", ""],
    "incorrect_answers": ["No"],
}


def data(*rows: object) -> bytes:
    return json.dumps(rows).encode()


def test_the_original_and_the_hub_have_the_same_samples() -> None:
    for read in (mc1_samples, mc2_samples):
        assert read(data(ORIGINAL)) == read(data(HUB))


def test_the_right_choice_may_stand_anywhere() -> None:
    (sample,) = mc1_samples(data(LUCE))
    assert (sample.choices, sample.gold, sample.targets) == (("No.", "Yes."), (1,), ("Yes.",))


def test_mc2_is_the_mass_of_all_true_choices() -> None:
    task = truthfulqa_mc2(mc2_samples(data(HUB)), source="s")
    output = Output(likelihoods=tuple(Likelihood(x, 1, False) for x in (-1.0, -1.0, -1.0)))
    scores = asyncio.run(task.scorer(task.dataset.samples[0], output))
    assert scores["acc"] == pytest.approx(2 / 3)


def test_six_answered_questions_come_first() -> None:
    (prompt,) = prompts_of(truthfulqa_mc1(mc1_samples(data(HUB)), source="s"))
    assert prompt.count("Q: ") == 7
    assert prompt.startswith("Q: What is human life expectancy in the United States?\nA: Human")
    assert prompt.endswith("were held in Barcelona, Spain.\n\nQ: Is it?\nA:")


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Is it?"},
        {"question": "Is it?", "mc1_targets": {"Yes.": 0, "No.": 0}},
        {"question": "Is it?", "mc1_targets": {"Yes.": 1, "No.": 1}},
        {"question": "Is it?", "mc1_targets": {"choices": ["Yes."], "labels": [1, 0]}},
    ],
)
def test_choices_without_one_true_label_are_an_error(row: Mapping[str, Any]) -> None:
    with pytest.raises(FormatError, match="row 1 of TruthfulQA"):
        mc1_samples(data(row))


def test_references_end_with_a_full_stop_and_no_comment_is_true() -> None:
    (sample,) = written_samples(data(WRITTEN))
    assert sample.text == "Is it?"
    assert sample.targets == ("Yes.", "It is.", "I have no comment.")
    assert sample.metadata["false_answers"] == ["No."]


def measured(reference: str, answer: str) -> dict[str, float]:
    """The share of the answer's letters that the reference has, as every measure."""
    value = 100 * sum(letter in reference for letter in answer) / max(len(answer), 1)
    return dict.fromkeys(("bleu", "rouge1", "rouge2", "rougeL"), value)


def test_an_answer_is_compared_with_the_best_of_each_side() -> None:
    scorer = DifferenceScorer(measured, "letters")
    task = truthfulqa_gen(written_samples(data(WRITTEN)), scorer, source="s")
    sample = task.dataset.samples[0]
    scores = asyncio.run(task.scorer(sample, Output("Yes")))
    assert (scores["bleu_max"], scores["bleu_acc"]) == (100, 1)
    assert scores["bleu_diff"] == 100 - measured("No.", "Yes")["bleu"]
    assert asyncio.run(task.scorer(sample, Output("No")))["rougeL_acc"] == 0
    assert all(metric.columns[0] in scores for metric in task.metrics)
    assert task.protocol["scorer"]["measures"] == "letters"


def test_a_sample_without_false_references_is_an_error() -> None:
    (sample,) = mc1_samples(data(HUB))
    with pytest.raises(InputError, match="no false references"):
        asyncio.run(DifferenceScorer(measured, "letters")(sample, Output("x")))
