"""Judges as scorers of a task: from its YAML to figures, kept, and none without a judge."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.errors import about
from tests.evals.judging.judges import Judge, shown_answers
from tests.evals.tasks import scripted

from lmstack.core import InputError, ScriptedModel
from lmstack.evals.metrics import make_scorer
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import run
from lmstack.evals.task import Task
from lmstack.evals.task_file import load_task

TASK = """
name: capitals
data: rows.jsonl
input: "What is the capital of {{country}}?"
scorer: %s
"""
ROWS = [
    {"country": "France", "capital": "Paris", "known": "It is Paris."},
    {"country": "Japan", "capital": "Tokyo", "known": "It is Tokyo."},
]


def task(folder: Path, scorer: str, judge: Any) -> Task:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "task.yaml").write_text(TASK % scorer)
    return load_task(folder / "task.yaml", partial(make_scorer, judge=judge))


async def test_a_rubric_rates_beside_a_field_and_counts_what_cannot_be_read(tmp_path: Path) -> None:
    def reply(request: Any) -> str:
        text = request.messages[0].content
        assert "known to be right" in text
        if "It is Tokyo." in text:
            return "fine"
        return json.dumps({"clarity": {"reason": "Short.", "score": 4}})

    judge = ScriptedModel([reply])
    made = task(
        tmp_path, "{name: rubric, criteria: [clarity], reference: known, retries: 1}", judge
    )
    result = await run(made, scripted(lambda _: "Paris")[0])
    assert result.samples[0].scores == {"overall": 4, "clarity": 4, "parse_failures": 0}
    assert math.isnan(result.samples[1].scores["overall"])
    figures = result.figures()
    assert figures["overall"].value == 4
    assert figures["parse_failures"].value == 0.5
    assert len(judge.requests) == 3


async def test_a_pair_is_compared_with_a_field_in_both_orders(tmp_path: Path) -> None:
    def logits(prompt: str) -> dict[str, float]:
        shown = shown_answers(prompt)
        better = {"Paris": 1.0, "It is Paris.": 0.0, "It is Tokyo.": 3.0}
        return {
            "A": 30 + better[shown["answer A"]],
            "B": 30 + better[shown["answer B"]],
            "C": 20.0,
        }

    judge = Judge(logits, "regex", "logprobs")
    made = task(tmp_path, "{name: pairwise, against: known}", judge)
    subject = scripted(lambda _: "Paris")[0]
    with OutputStore(tmp_path / "outputs.db") as store:
        result = await run(made, subject, store)
        asked = len(judge.requests)
        again = await run(made, subject, store)
    assert [row.scores["win"] for row in result.samples] == [1, 0]
    assert result.figures()["flips"].value == 0
    assert len(judge.requests) == asked  # a judge's scores are kept
    assert [row.scores for row in again.samples] == [row.scores for row in result.samples]


def test_another_judge_or_question_is_another_protocol() -> None:
    one = make_scorer("rubric", judge=ScriptedModel(name="a"))
    assert one.protocol == make_scorer("rubric", judge=ScriptedModel(name="a")).protocol
    assert one.protocol != make_scorer("rubric", judge=ScriptedModel(name="b")).protocol
    other = make_scorer({"name": "rubric", "criteria": {"clarity": "?"}}, judge=ScriptedModel())
    assert one.protocol != other.protocol
    json.dumps(dict(one.protocol))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("rubric", "has no judge"),
        ({"name": "pairwise", "agianst": "x"}, "has no judge"),
    ],
)
def test_without_a_judge_there_is_no_scorer(wanted: Any, message: str) -> None:
    with pytest.raises(InputError, match=message, check=about("judge")) as error:
        make_scorer(wanted)
    assert error.value.hint is not None
    assert "--judge" in error.value.hint


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": "pairwise", "agianst": "x"},
        {"name": "rubric", "criteria": []},
        {"name": "rubric", "criteria": {"overall": "?"}},
        {"name": "rubric", "retries": -1},
    ],
)
def test_settings_are_checked(wanted: Any) -> None:
    with pytest.raises(InputError, check=about("agianst", "criteria", "retries")):
        make_scorer(wanted, judge=ScriptedModel())


async def test_a_field_that_is_missing_is_said(tmp_path: Path) -> None:
    made = task(tmp_path, "pairwise", ScriptedModel(["A"]))
    with pytest.raises(InputError, match="no answer to compare with", check=about("scorer")):
        await made.scorer(made.dataset.samples[0], _output())
    made = task(tmp_path, "{name: rubric, reference: truth}", ScriptedModel(["A"]))
    with pytest.raises(InputError, match="field truth", check=about("scorer")):
        await made.scorer(made.dataset.samples[0], _output())


def _output() -> Any:
    from lmstack.evals.task import Output

    return Output("Paris")
