"""GPQA's orders are those of simple-evals."""

from __future__ import annotations

import csv
import io
import random

import pytest
from tests.errors import about
from tests.evals.benchmarks.models import prompts_of, scores_for

from lmstack.core import InputError
from lmstack.evals.benchmarks.gpqa import gpqa, gpqa_samples, gpqa_zeroshot

NAMES = ("Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")


def data(count: int) -> bytes:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, ["Record ID", "Question", *NAMES])
    writer.writeheader()
    for n in range(count):
        answers = dict(zip(NAMES, (f"right {n} [title]x", "a", "b", "c"), strict=True))
        writer.writerow({"Record ID": n, "Question": f"Why {n},\nthen?", **answers})
    return sink.getvalue().encode()


def test_orders_are_drawn_for_all_rows_as_often_as_they_are_asked() -> None:
    samples = gpqa_samples(data(5))
    draw = random.Random(0)
    orders = [draw.sample(range(4), 4) for _ in range(20)]
    assert [sample.gold[0] for sample in samples] == [order.index(0) for order in orders]
    for sample, order in zip(samples, orders, strict=True):
        right = sample.choices[order.index(0)]
        assert [(right, "a", "b", "c")[place] for place in order] == list(sample.choices)


def test_repeats_of_a_question_are_one_cluster_with_ids_of_their_own() -> None:
    samples = gpqa_samples(data(3))
    assert len({sample.id for sample in samples}) == 12
    assert [sample.cluster for sample in samples[:4]] == ["gpqa/0", "gpqa/1", "gpqa/2", "gpqa/0"]
    assert {sample.cluster for sample in gpqa_samples(data(3), repeats=1)} == {""}


def test_the_letter_of_the_right_answer_counts() -> None:
    task = gpqa(gpqa_samples(data(1)), source="s")
    letter = task.dataset.samples[0].targets[0]
    assert scores_for(task, f"So.\nAnswer: {letter}")["acc"] == 1
    assert scores_for(task, f"So.\nAnswer: {chr(ord('A') + (ord(letter) - 64) % 4)}")["acc"] == 0


def test_the_zero_shot_form_cleans_answers_and_scores_letters_in_brackets() -> None:
    task = gpqa_zeroshot(gpqa_samples(data(1), repeats=1, cleaned=True), source="s")
    (prompt,) = prompts_of(task)
    assert prompt.startswith(
        "What is the correct answer to this question:Why 0,\nthen?\nChoices:\n"
    )
    assert "right 0. x" in prompt
    solver = task.solver
    continuations = solver.continuations(task.dataset.samples[0])  # type: ignore[attr-defined]
    assert continuations == [" (A)", " (B)", " (C)", " (D)"]


def test_a_column_that_is_missing_is_named() -> None:
    with pytest.raises(InputError, match="Incorrect Answer 1", check=about("Incorrect Answer 1")):
        gpqa_samples(b"Question,Correct Answer\nq,a\n")
