"""GPQA's orders are those of simple-evals."""

from __future__ import annotations

import csv
import io
import random

import pytest
from tests.errors import about
from tests.evals.benchmarks.models import prompts_of, scores_for

from lmstack.core import InputError
from lmstack.evals.benchmarks.gpqa import gpqa, gpqa_samples, gpqa_zeroshot, shuffled

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
    match = "row 1 of GPQA has None under 'Incorrect Answer 1'"
    with pytest.raises(InputError, match=match, check=about("Incorrect Answer 1")):
        gpqa_samples(b"Question,Correct Answer\nq,a\n")


def test_gpqa_is_asked_as_simple_evals_asks_by_default() -> None:
    samples = gpqa_samples(data(2))
    assert samples == gpqa_samples(data(2), repeats=4, cleaned=False)
    assert [sample.id for sample in samples[:3]] == ["gpqa/0/0", "gpqa/1/0", "gpqa/0/1"]
    assert "right 0 [title]x" in samples[0].choices
    said = gpqa(samples, source="s")
    solver = said.protocol["solver"]
    assert (solver["chat"], solver["sampling"]) == (True, {"temperature": 0.0, "max_tokens": 2048})
    other = gpqa(samples, source="s", name="n", chat=False, max_tokens=9)
    assert (other.name, other.dataset.name, other.protocol["solver"]["chat"]) == ("n", "n", False)
    assert other.protocol["solver"]["sampling"]["max_tokens"] == 9
    assert [metric.name for metric in said.metrics] == ["acc", "parsed"]
    likely = gpqa_zeroshot(samples, source="s")
    assert [metric.name for metric in likely.metrics] == ["acc", "ece"]
    assert (said.name, said.dataset.source, likely.name, likely.dataset.name) == (
        *("gpqa", "s", "gpqa_zeroshot", "gpqa_zeroshot"),
    )
    (alone,) = shuffled("x", [("q", ["r", "w"])])
    assert (alone.id, alone.cluster, alone.targets) == ("x/0/0", "", ("AB"[alone.gold[0]],))
    with pytest.raises(InputError, match="0 repeats", check=about("repeats")):
        shuffled("x", [("q", ["r", "w"])], repeats=0)
