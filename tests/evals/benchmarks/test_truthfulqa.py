"""TruthfulQA by choice and by generation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from tests.evals.benchmarks.models import prompts_of
from tests.oracles import rouge_scorer

from lmstack.core import FormatError, InputError, Likelihood
from lmstack.evals.benchmarks.truthfulqa import (
    DifferenceScorer,
    _measured,
    mc1_samples,
    mc2_samples,
    truthfulqa_gen,
    truthfulqa_mc1,
    truthfulqa_mc2,
    written_samples,
)
from lmstack.evals.task import ModelOutput

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
    output = ModelOutput(likelihoods=tuple(Likelihood(x, 1, False) for x in (-1.0, -1.0, -1.0)))
    scores = asyncio.run(task.scorer(task.dataset.samples[0], output))
    assert scores["mc2"] == pytest.approx(2 / 3)


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


def test_an_answer_is_compared_with_the_best_of_each_side() -> None:
    task = truthfulqa_gen(written_samples(data(WRITTEN)), source="s")
    sample = task.dataset.samples[0]
    scores = asyncio.run(task.scorer(sample, ModelOutput("Yes.")))
    assert (scores["rouge1_max"], scores["rouge1_diff"], scores["rouge1_acc"]) == (100, 100, 1)
    assert asyncio.run(task.scorer(sample, ModelOutput("No.")))["rougeL_diff"] == 40 - 100
    assert all(metric.columns[0] in scores for metric in task.metrics)


words = st.lists(st.sampled_from(["it", "is", "not", ".", " . ", "Yes,", "ü"]), max_size=6)


@given(words, words)
def test_measures_are_those_of_sacrebleu_and_rouge_score(one: list[str], other: list[str]) -> None:
    answer, reference = " ".join(one), " ".join([*other, "end."])
    found = _measured(answer, reference)
    bleu = sacrebleu.corpus_bleu(
        [answer], [[reference]], smooth_method="exp", smooth_value=0.0, tokenize="intl"
    )
    assert found["bleu"] == pytest.approx(bleu.score, abs=1e-9)
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeLsum"])
    prepared = [text.replace(" . ", ".\n") for text in (reference, answer)]
    for kind, score in scorer.score(*prepared).items():
        assert found[kind.removesuffix("sum")] == pytest.approx(100 * score.fmeasure, abs=1e-9)


def test_a_sample_without_false_references_is_an_error() -> None:
    (sample,) = mc1_samples(data(HUB))
    with pytest.raises(InputError, match="no false references"):
        asyncio.run(DifferenceScorer()(sample, ModelOutput("x")))


@pytest.mark.parametrize(
    "targets", [{"choices": ["a", "b"]}, {"choices": ["a", "b"], "labels": [1]}, 3, None]
)
def test_choices_and_their_labels_belong_together(targets: Any) -> None:
    for read, name in ((mc1_samples, "mc1_targets"), (mc2_samples, "mc2_targets")):
        with pytest.raises(FormatError, match="row 2 of TruthfulQA"):
            read(data(ORIGINAL, {**ORIGINAL, name: targets}))
    with pytest.raises(FormatError, match="no mc2_targets"):
        mc2_samples(data(LUCE))


@pytest.mark.parametrize("name", ["correct_answers", "incorrect_answers"])
@pytest.mark.parametrize("value", [[], None, "x"])
def test_both_lists_of_references_are_needed(name: str, value: Any) -> None:
    with pytest.raises(FormatError, match=f"row 2 of TruthfulQA has no list of {name}"):
        written_samples(data(WRITTEN, {**WRITTEN, name: value}))
    known = {**WRITTEN, "correct_answers": ["I have no comment"]}
    (sample,) = written_samples(data(known))
    assert (sample.id, sample.targets) == ("truthfulqa_gen/0", ("I have no comment.",))


def test_tasks_of_truthfulqa_say_what_they_score() -> None:
    one, two, written = (
        truthfulqa_mc1(mc1_samples(data(HUB, LUCE)), source="s"),
        truthfulqa_mc2(mc2_samples(data(HUB)), source="s"),
        truthfulqa_gen(written_samples(data(WRITTEN)), source="s"),
    )
    assert [task.dataset.name for task in (one, two, written)] == [
        *("truthfulqa_mc1", "truthfulqa_mc2", "truthfulqa_gen"),
    ]
    assert {task.dataset.source for task in (one, two, written)} == {"s"}
    assert [sample.id for sample in one.dataset.samples] == ["truthfulqa_mc1/0", "truthfulqa_mc1/1"]
    assert two.dataset.samples[0].id == "truthfulqa_mc2/0"
    assert [metric.name for metric in one.metrics] == ["mc1", "ece"]
    assert one.metrics[1].columns == ("confidence", "mc1")
    measures = ("bleu", "rouge1", "rouge2", "rougeL")
    assert [(m.name, m.columns, m.is_share, m.decimals) for m in written.metrics] == [
        *((f"{name}_acc", (f"{name}_acc",), True, 3) for name in measures),
        *(
            (f"{name}_{kind}", (f"{name}_{kind}",), False, 1)
            for name in measures
            for kind in ("diff", "max")
        ),
    ]
    solver = written.protocol["solver"]
    assert (solver["chat"], solver["sampling"]["max_tokens"]) == (False, 256)
    assert solver["sampling"]["stop"] == ["\n\n"]
    even = asyncio.run(written.scorer(written.dataset.samples[0], ModelOutput("Nothing of it")))
    assert (even["rouge2_diff"], even["rouge2_acc"]) == (0.0, 0.0)
