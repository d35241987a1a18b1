"""Task files for indexes and agents: few lines, and what they say when they are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.errors import about

from lmstack.core import InputError, StoreError
from lmstack.evals.metrics import CitedGold
from lmstack.evals.system_tasks import (
    AskIndex,
    RunAgent,
    question_metadata,
    system_in,
    with_usual_settings,
)
from lmstack.evals.task import Task
from lmstack.evals.task_file import load_task

QUESTIONS = [
    {"question": "How long?", "answers": ["two years"], "sources": ["fares.md"]},
    {"question": "Who drew it?", "answerable": False},
]
HANDBOOK = {"name": "handbook", "data": "rows.jsonl", "index": {"docs": "handbook"}}
PRICES = {"name": "prices", "data": "rows.jsonl", "agent": {"python": True}}


def loaded(folder: Path, settings: dict[str, Any], rows: list[dict[str, Any]]) -> Task:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "task.yaml").write_text(yaml.safe_dump(settings))
    return load_task(folder / "task.yaml")


def test_three_lines_make_a_task_about_documents(tmp_path: Path) -> None:
    task = loaded(tmp_path, HANDBOOK, QUESTIONS)
    assert task.solver == AskIndex()
    assert [sample.text for sample in task.dataset.samples] == ["How long?", "Who drew it?"]
    known, unknown = map(CitedGold.of, task.dataset.samples)
    assert known == CitedGold(True, (("two years",),), ("fares.md",))
    assert not unknown.answerable
    names = [metric.name for metric in task.metrics]
    assert names[0] == "correct"
    assert {"wrongly_answered", "ndcg@10", "faithfulness", "median_seconds"} <= set(names)
    assert "citation_recall" not in names


def test_what_is_evaluated_is_no_part_of_the_protocol(tmp_path: Path) -> None:
    one = loaded(tmp_path, HANDBOOK, QUESTIONS).protocol
    other = loaded(tmp_path, HANDBOOK | {"index": {"path": "other"}}, QUESTIONS).protocol
    bare = {**HANDBOOK, "solver": "index"}
    del bare["index"]
    assert one == other == loaded(tmp_path, bare, QUESTIONS).protocol
    plain = loaded(tmp_path, HANDBOOK | {"faithfulness": False}, QUESTIONS)
    assert plain.protocol != one
    assert "faithfulness" not in {metric.name for metric in plain.metrics}


def test_three_lines_make_a_task_for_an_agent(tmp_path: Path) -> None:
    rows = [{"task": "What is 12 times 31?", "answers": 372, "tools": ["calculator"]}]
    task = loaded(tmp_path, PRICES, rows)
    assert task.solver == RunAgent()
    sample = task.dataset.samples[0]
    assert (sample.input, sample.targets) == ("What is 12 times 31?", ("372",))
    assert sample.metadata["tools"] == ["calculator"]
    assert task.metrics[0].name == "success"


def test_what_is_usual_can_be_said_otherwise(tmp_path: Path) -> None:
    rows = [{"q": "How long?", "accept": ["two|2"], "on": "cards"}]
    said = {"input": "{{q}}", "targets": "accept", "cluster": "on", "metric": "ndcg@5"}
    scorer = {"name": "cited_answer", "patterns": True, "k": 5}
    with pytest.raises(
        InputError, match="no metric 'ndcg@5'", check=about("metric")
    ):  # no row says which documents
        loaded(tmp_path, HANDBOOK | said | {"scorer": scorer}, rows)
    rows[0]["sources"] = ["fares.md"]
    task = loaded(tmp_path, HANDBOOK | said | {"scorer": scorer}, rows)
    assert task.metrics[0].name == "ndcg@5"
    assert task.dataset.samples[0].cluster == "cards"


@pytest.mark.parametrize(
    ("settings", "rows", "message"),
    [
        (HANDBOOK | {"agent": {}}, QUESTIONS, "index and agent"),
        (HANDBOOK | {"solver": "generate"}, QUESTIONS, "the solver 'generate'"),
        (HANDBOOK | {"instruction": "Be brief."}, QUESTIONS, "instruction is of the solver"),
        (HANDBOOK | {"sampling": {}}, QUESTIONS, "sampling is of the solver generate"),
        (PRICES | {"faithfulness": False}, QUESTIONS, "faithfulness is of the solver index"),
        (HANDBOOK, [{"question": "x", "answerable": True}], "rows.jsonl:1: answerable is true"),
        (PRICES, [{"task": "x", "answers": 1, "tools": "all"}], "rows.jsonl:1: the field tools"),
        (PRICES, [{"task": "x"}], "no field 'answers'"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, settings: dict[str, Any], rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(
        InputError, check=about("data", "faithfulness", "instruction", "sampling", "solver")
    ) as error:
        loaded(tmp_path, settings, rows)
    assert message in error.value.message


def test_a_file_says_what_is_evaluated(tmp_path: Path) -> None:
    file = tmp_path / "task.yaml"
    for text, found in (
        ("index: {docs: handbook}", ("index", {"docs": "handbook"})),
        ("index: handbook.index", ("index", {"path": "handbook.index"})),
        ("solver: index", ("index", {})),
        ("agent:", ("agent", {})),
        ("solver: generate", None),
    ):
        file.write_text(text)
        assert system_in(file) == found
    file.write_text("agent: python")
    with pytest.raises(InputError, match="agent is 'python'", check=about("agent")):
        system_in(file)


def test_settings_of_other_tasks_stay_as_they_are() -> None:
    assert with_usual_settings({"name": "x", "scorer": "f1"}) == {"name": "x", "scorer": "f1"}


def test_answers_are_in_the_field_that_is_named_or_in_the_usual_one() -> None:
    row = {"answers": ["a"], "accept": ["b"]}
    golds = [question_metadata(row, name)["gold"]["answers"] for name in ("", "accept")]
    assert golds == [[["a"]], [["b"]]]


def test_a_file_that_cannot_be_read_and_settings_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="reading") as error:
        system_in(tmp_path)
    assert str(tmp_path) in error.value.message
    file = tmp_path / "task.yaml"
    for text, kind, hint in (
        ("agent: 3", "agent", "agent: {python: true}"),
        ("index: [a]", "index", "index: {docs: FOLDER}"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=f"{kind} is", check=about(kind)) as wrong:
            system_in(file)
        assert wrong.value.hint == hint
    for text in ("index: a\nagent: {}", "index: a\nsolver: agent", "agent:\nsolver: generate"):
        file.write_text(text)
        with pytest.raises(InputError, match="the task has", check=about("solver")):
            system_in(file)
    file.write_text("- a")
    assert system_in(file) is None
    file.write_text("\ufeffindex: a", encoding="utf-8")
    assert system_in(file) == ("index", {"path": "a"})


def test_settings_of_a_file_come_before_what_is_usual() -> None:
    assert with_usual_settings({"agent": None, "input": "x"}) == {
        **{"input": "x", "targets": "answers", "scorer": ["agent_run", "usage"]},
        "solver": "agent",
    }
    assert with_usual_settings({"solver": "index"})["input"] == "{{question}}"
