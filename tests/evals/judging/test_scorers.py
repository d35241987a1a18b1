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

from lmstack.core import InputError, Message, ScriptedModel
from lmstack.evals.judging import RUBRIC
from lmstack.evals.metrics import make_scorer
from lmstack.evals.output_store import OutputStore
from lmstack.evals.run import run
from lmstack.evals.task import ModelOutput, Sample, Task
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
        await made.scorer(made.dataset.samples[0], ModelOutput("Paris"))
    made = task(tmp_path, "{name: rubric, reference: truth}", ScriptedModel(["A"]))
    with pytest.raises(InputError, match="field truth", check=about("scorer")):
        await made.scorer(made.dataset.samples[0], ModelOutput("Paris"))


def sample(**given: Any) -> Sample:
    return Sample(
        "7", given.pop("input", "Capital?"), given.pop("targets", ("Paris",)), metadata=given
    )


@pytest.mark.parametrize(
    ("better", "expected"),
    [
        ({"A": 9.0, "B": 8.0, "C": 0.0}, (0.5, 1.0, 0.0)),
        ({"A": 9.0, "B": 8.0, "C": 10.0}, (0.5, 0.0, 0.0)),
        ({"x": 60.0}, (math.nan, math.nan, 1.0)),
    ],
)
async def test_a_pair_without_a_field_is_compared_with_the_first_target(
    better: dict[str, float], expected: Any
) -> None:
    """In both orders alike, or by what cannot be read."""
    judge = Judge(lambda _: better, "logprobs" if "x" not in better else "")
    scorer = make_scorer({"name": "pairwise", "reference": "known"}, judge=judge)
    if "x" in better:
        scorer = make_scorer({"name": "pairwise", "reference": "known"}, judge=ScriptedModel(["?"]))
    turns = (Message("system", "Be brief."), Message("user", "Capital?"))
    found = await scorer(sample(input=turns, known="R."), ModelOutput("Lyon"))
    values = tuple(found[name] for name in ("win", "flips", "parse_failures"))
    assert values == pytest.approx(expected, nan_ok=True)
    asked = getattr(scorer, "judge").requests[-1].messages[0].content  # noqa: B009
    assert all(part in asked for part in ("Be brief.", "Capital?", "Lyon", "Paris", "R."))


async def test_what_the_scorers_settings_ask_for() -> None:
    judge = ScriptedModel(["no"])
    scorer = make_scorer(
        {"name": "pairwise", "criterion": "Which rhymes?", "ties": False}, judge=judge
    )
    await scorer(sample(), ModelOutput("Lyon"))
    asked = judge.requests[-1].messages[0].content
    assert "Which rhymes? Reply with the letter alone: A or B." in asked
    assert scorer.protocol == {
        **{"name": "pairwise", "version": 1, "against": "", "reference": "", "ties": False},
        **{"criterion": "Which rhymes?", "judge": judge.info.name, "temperature": 0},
        "judge_digest": judge.info.digest,
    }
    rubric = make_scorer({"name": "rubric", "criteria": ["clarity"], "retries": 3}, judge=judge)
    found = await rubric(sample(), ModelOutput("Lyon"))
    assert (len(judge.requests), found["parse_failures"]) == (len(judge.requests), 1.0)
    assert math.isnan(found["clarity"])
    assert math.isnan(found["overall"])
    assert rubric.protocol == {
        **{"name": "rubric", "version": 1, "criteria": {"clarity": RUBRIC[2].question}},
        **{"reference": "", "retries": 3, "judge": judge.info.name, "temperature": 0},
        "judge_digest": judge.info.digest,
    }
    plain = make_scorer("rubric", judge=judge)
    assert (plain.protocol["retries"], make_scorer("pairwise", judge=judge).protocol["ties"]) == (
        2,
        True,
    )
    shown = [(m.name, m.columns, m.better, m.is_share, m.decimals) for m in rubric.metrics]
    assert shown == [
        ("overall", ("overall",), "higher", False, 2),
        ("clarity", ("clarity",), "higher", False, 2),
        ("parse_failures", ("parse_failures",), "lower", False, 3),
    ]
    assert [(m.name, m.better, m.decimals) for m in scorer.metrics] == [
        ("win", "higher", 3),
        ("flips", "lower", 3),
        ("parse_failures", "lower", 3),
    ]


@pytest.mark.parametrize(
    "wanted", [{"reference": 1}, {"against": 1}, {"criterion": 1}, {"ties": 1}]
)
def test_settings_of_pairs_are_checked(wanted: Any) -> None:
    with pytest.raises(InputError, check=about(*wanted)):
        make_scorer({"name": "pairwise", **wanted}, judge=ScriptedModel())


@pytest.mark.parametrize(
    ("name", "role"), [("pairwise", "against"), ("pairwise", "reference"), ("rubric", "reference")]
)
async def test_a_field_that_is_no_text_says_what_it_is_for(name: str, role: str) -> None:
    scorer = make_scorer({"name": name, role: "f"}, judge=ScriptedModel(["A"]))
    with pytest.raises(
        InputError, match="field f of sample 7 is 3", check=about("scorer")
    ) as error:
        await scorer(sample(f=3), ModelOutput("x"))
    assert error.value.hint == f"{role} names a field of the row that is text"
    lists = make_scorer([{"name": name, role: "f"}, "usage"], judge=ScriptedModel(["A"]))
    assert len(lists.metrics) > 3
