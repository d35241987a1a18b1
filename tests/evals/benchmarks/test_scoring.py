"""A letter is read as simple-evals reads it."""

from __future__ import annotations

import asyncio

import pytest

from lmstack.evals.benchmarks.mmlu import ANSWER
from lmstack.evals.benchmarks.solvers import CALIBRATION, LetterScorer
from lmstack.evals.task import ModelOutput, Sample

SAMPLE = Sample("s", "q", choices=("x", "y"), gold=(1,))


@pytest.mark.parametrize(
    ("text", "acc", "parsed"),
    [
        ("so\nAnswer: B", 1, 1),
        ("answer:$b$", 1, 1),
        ("**Answer: B**", 1, 1),
        ("Answer: A\nAnswer: B", 0, 1),
        ("B", 0, 0),
        ("", 0, 0),
    ],
)
def test_a_letter_is_read_after_the_word_answer(text: str, acc: float, parsed: float) -> None:
    found = asyncio.run(LetterScorer(ANSWER)(SAMPLE, ModelOutput(text)))
    assert found == {"acc": acc, "parsed": parsed}


def test_calibration_is_that_of_the_chosen_choice() -> None:
    assert (CALIBRATION.name, CALIBRATION.columns) == ("ece", ("confidence", "acc"))
