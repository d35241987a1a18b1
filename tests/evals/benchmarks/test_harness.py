"""Prompts, continuations and scores are those that lm-evaluation-harness 0.4.13 gave for the same
items, texts and log-likelihoods. benchmarks/evaluation_prompts.py records them, and compares all
items that packages carry."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.evals.benchmarks.invented import Case, differences, invented

GOLDEN = json.loads((Path(__file__).parent / "golden" / "harness.json").read_text())


@pytest.mark.parametrize("case", invented(), ids=lambda case: case.name)
def test_what_is_asked_and_scored_is_the_harness_own(case: Case) -> None:
    assert differences(case, GOLDEN[case.name]) == []


def test_every_recorded_task_is_compared() -> None:
    assert {case.name for case in invented()} == set(GOLDEN)
