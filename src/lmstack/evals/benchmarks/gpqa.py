"""GPQA (Rein et al., 2023, arXiv:2311.12022): questions for experts, four choices each.

The order of the choices is drawn from `random.Random(0)`, one permutation for each question and
repeat, as simple-evals does; so it is the same in every run. By generation as simple-evals asks, or
by likelihood in the words of lm-evaluation-harness, whose own shuffle depends on what ran before it
and is not reproduced. The data are not in any package: its makers ask that they not be published in
plain text. Not covered: its few-shot forms.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from lmstack.core import InputError, SamplingParams
from lmstack.evals.benchmarks.data_files import DataFile, csv_rows, text_field
from lmstack.evals.benchmarks.mmlu import ANSWER, ASKED
from lmstack.evals.benchmarks.prompts import LETTERS, FewShot
from lmstack.evals.benchmarks.solvers import (
    ACCURACY,
    CALIBRATION,
    PARSED,
    GenerationSolver,
    LetterScorer,
    LikelihoodSolver,
)
from lmstack.evals.metrics import NextToken
from lmstack.evals.task import Dataset, Sample, Task

__all__ = ["gpqa", "gpqa_samples", "gpqa_zeroshot", "shuffled"]

_RIGHT = "Correct Answer"
_ANSWERS = (_RIGHT, "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
_ZEROSHOT = FewShot(
    "What is the correct answer to this question:{question}\nChoices:\n(A) {choices[0]}\n"
    "(B) {choices[1]}\n(C) {choices[2]}\n(D) {choices[3]}\nAnswer:",
    source="lm-evaluation-harness gpqa_zeroshot 2.2, choices in simple-evals's order",
)


def gpqa_samples(
    file: DataFile, sha256: str = "", *, repeats: int = 4, cleaned: bool = False
) -> tuple[Sample, ...]:
    """Of the CSV with the columns Question, Correct Answer, Incorrect Answer 1 to 3. ``repeats``:
    how often the whole set is asked, each time in another order; repeats of a question are one
    cluster. ``cleaned``: as lm-evaluation-harness cleans the answers."""
    rows = []
    for number, row in enumerate(csv_rows(file, sha256), 1):
        where = f"row {number} of GPQA"
        answers = [text_field(row, name, where) for name in _ANSWERS]
        answers = [_cleaned(answer) for answer in answers] if cleaned else answers
        rows.append((text_field(row, "Question", where), answers))
    return shuffled("gpqa", rows, repeats=repeats)


def shuffled(
    name: str, rows: Sequence[tuple[str, Sequence[str]]], *, repeats: int = 1
) -> tuple[Sample, ...]:
    """``rows``: (question, answers), the right one first. The orders are those of simple-evals:
    all rows as often as ``repeats`` says, one after another, and a permutation drawn for each."""
    if repeats < 1:
        raise InputError(f"{repeats} repeats of a question", param="repeats")
    draw = random.Random(0)
    found = []
    for place in range(len(rows) * repeats):
        repeat, number = divmod(place, len(rows))
        question, answers = rows[number]
        order = draw.sample(range(len(answers)), len(answers))
        choices = tuple(answers[each] for each in order)
        gold = choices.index(answers[0])
        cluster = f"{name}/{number}" if repeats > 1 else ""
        found.append(
            Sample(
                f"{name}/{number}/{repeat}", question, (LETTERS[gold],), choices, (gold,), cluster
            )
        )
    return tuple(found)


def _cleaned(text: str) -> str:
    return text.strip().replace(" [title]", ". ").replace("  ", " ")


def gpqa(
    tests: Sequence[Sample],
    *,
    source: str,
    name: str = "gpqa",
    chat: bool = True,
    max_tokens: int = 2048,
) -> Task:
    """By generation with reasoning."""
    sampling = SamplingParams(temperature=0.0, max_tokens=max_tokens)
    return Task(
        name,
        Dataset(name, tuple(tests), source),
        GenerationSolver(FewShot(ASKED, source="simple-evals"), sampling, chat),
        LetterScorer(ANSWER),
        (ACCURACY, PARSED),
        about="GPQA by generation with reasoning, as simple-evals asks",
    )


def gpqa_zeroshot(tests: Sequence[Sample], *, source: str, name: str = "gpqa_zeroshot") -> Task:
    """By likelihood of the letters in brackets."""
    return Task(
        name,
        Dataset(name, tuple(tests), source),
        LikelihoodSolver(_ZEROSHOT, " ({letter})"),
        NextToken(),
        (ACCURACY, CALIBRATION),
        about="GPQA by likelihood of the letters, no shots",
    )
