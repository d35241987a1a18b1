"""Scores by the harness's rules."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstack.core import InputError, Likelihood
from lmstack.evals.benchmarks.scoring import (
    CALIBRATION,
    ChoiceScorer,
    ExtractionScorer,
    LetterScorer,
    Reading,
    TrueMassScorer,
    pass_at_k,
)
from lmstack.evals.dataset import Sample
from lmstack.evals.task import Output, Scorer

logprobs = st.lists(st.floats(-500, 0), min_size=2, max_size=6)


def scored(scorer: Scorer, sample: Sample, output: Output) -> Mapping[str, float]:
    return asyncio.run(scorer(sample, output))


def likelihoods(values: list[float]) -> Output:
    return Output(likelihoods=tuple(Likelihood(value, 1, False) for value in values))


def with_choices(*choices: str, gold: tuple[int, ...] = (0,)) -> Sample:
    return Sample("s", "q", choices=choices, gold=gold)


@given(logprobs, st.data())
def test_the_likeliest_choice_wins_by_itself_and_by_its_length(
    values: list[float], data: st.DataObject
) -> None:
    texts = st.text(min_size=1, max_size=8)
    choices = data.draw(st.lists(texts, min_size=len(values), max_size=len(values)))
    gold = data.draw(st.integers(0, len(values) - 1))
    found = scored(
        ChoiceScorer(by_length=True), with_choices(*choices, gold=(gold,)), likelihoods(values)
    )
    assert found["acc"] == (int(np.argmax(values)) == gold)
    sizes = np.array([len(choice) for choice in choices], float)
    assert found["acc_norm"] == (int(np.argmax(values / sizes)) == gold)
    sizes = np.array([len(choice.encode()) for choice in choices], float)
    assert found["acc_bytes"] == (int(np.argmax(values / sizes)) == gold)
    shares = np.exp(np.array(values) - max(values))
    assert found["confidence"] == pytest.approx(shares.max() / shares.sum())


def test_a_tie_goes_to_the_first_choice() -> None:
    for gold, acc in ((0, 1), (1, 0)):
        sample = with_choices("a", "b", gold=(gold,))
        assert scored(ChoiceScorer(), sample, likelihoods([-1, -1]))["acc"] == acc


@given(logprobs)
def test_the_mass_of_all_choices_is_one_and_of_none_nought(values: list[float]) -> None:
    choices = [str(n) for n in range(len(values))]
    parts = [
        scored(TrueMassScorer(), with_choices(*choices, gold=(n,)), likelihoods(values))["acc"]
        for n in range(len(values))
    ]
    assert sum(parts) == pytest.approx(1)


def test_likelihoods_far_below_what_a_float_can_hold_have_shares() -> None:
    sample = with_choices("a", "b", gold=(0,))
    found = scored(TrueMassScorer(), sample, likelihoods([-2000.0, -2000.0 - math.log(3)]))
    assert found["acc"] == pytest.approx(0.75)
    assert scored(TrueMassScorer(), sample, likelihoods([-math.inf] * 2))["acc"] == 0.5


def test_another_number_of_likelihoods_is_an_error() -> None:
    with pytest.raises(InputError, match="2 choices and 1 likelihoods"):
        scored(ChoiceScorer(), with_choices("a", "b"), likelihoods([-1.0]))


def test_a_reading_takes_the_first_or_the_last_match() -> None:
    first, last = Reading(r"\d+"), Reading(r"\d+", -1)
    assert (first.found("1 and 23"), last.found("1 and 23")) == ("1", "23")
    assert first.found("none") is None
    assert Reading(r"(\d)(x)?|(y)", -1).found("1x y") == "y"


def test_what_is_ignored_is_taken_out_of_both_sides() -> None:
    reading = Reading(r"is (.*)", ignored=(",", r"\$", r"(?s).*#### ", r"\.$"), ignore_case=True)
    assert reading.matches("it is $1,200.", ["We add\n#### 1200"])
    assert not reading.matches("it is 12", ["#### 1200"])
    assert not reading.matches("nothing", ["[invalid]"])


def test_an_extraction_says_whether_it_found_an_answer() -> None:
    scorer = ExtractionScorer({"strict": Reading(r"#### (\d+)"), "any": Reading(r"\d+")})
    found = scored(scorer, Sample("s", "q", ("7",)), Output("it is 7"))
    assert found == {"strict": 0, "strict_found": 0, "any": 1, "any_found": 1}


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
    scorer = LetterScorer(r"(?i)Answer[ \t]*:[ \t]*\$?([A-D])\$?")
    found = scored(scorer, with_choices("x", "y", gold=(1,)), Output(text))
    assert found == {"acc": acc, "parsed": parsed}


@given(st.integers(1, 200), st.data())
def test_pass_at_k_is_one_less_the_chance_that_all_drawn_drafts_fail(
    drafts: int, data: st.DataObject
) -> None:
    correct, k = data.draw(st.integers(0, drafts)), data.draw(st.integers(1, drafts))
    exact = 1 - math.comb(drafts - correct, k) / math.comb(drafts, k)
    assert pass_at_k(drafts, correct, k) == pytest.approx(exact, abs=1e-12)


def test_pass_at_more_than_there_are_drafts_is_not_a_number() -> None:
    assert math.isnan(pass_at_k(3, 1, 4))
    with pytest.raises(InputError):
        pass_at_k(3, 4, 1)


def test_calibration_is_computed_for_every_resample() -> None:
    rows = np.array([[0.9, 1.0], [0.9, 0.0], [0.5, 1.0], [0.5, 0.0]])
    both = CALIBRATION.statistic(np.stack([rows, rows]))
    assert both.shape == (2,)
    assert both[0] == both[1] == CALIBRATION.statistic(rows)


@given(st.text())
def test_no_text_breaks_a_reading(text: str) -> None:
    for pattern in (r"(-?[$0-9.,]{2,})|(-?[0-9]+)", "(?<=the answer is )(.*)(?=.)"):
        found = Reading(pattern, -1).found(text)
        assert found is None or re.search(pattern, text) is not None
