"""What people thought of answers as rows to train on: whose, with which prompt, and what of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lmstack.pipelines.feedback_data import feedback_rows
from lmstack.rag.answer.writing import build_messages
from lmstack.release.feedback import FeedbackJudgement, FeedbackStore
from lmstack.train.data.formats import choices_of, preference_of, ratings_of
from lmstack.train.data.rows import Row

if TYPE_CHECKING:
    from tests.app.conftest import Run


def passage(path: str, start: int, quote: str) -> dict[str, Any]:
    return {"path": path, "start": start, "end": start + len(quote), "quote": quote}


PASSAGES = [
    passage("a.md", 0, "Roses need water. Every day."),
    passage("b.md", 9, "The shop is shut."),
    passage("c.md", 0, "Lilies need shade."),
]
ANSWERED = {
    "question": "When do roses need water?",
    "past": [["Hi", "Hello"]],
    "task": "answer",
    "answer": "In the shade [1]. Every day [2].",
    "citations": [
        {"id": 1, **PASSAGES[2]},
        {"id": 2, **passage("a.md", 18, "Every day.")},
    ],
    "passages": PASSAGES,
}


def record(**changes: Any) -> dict[str, Any]:
    said: dict[str, Any] = {
        "verdict": None,
        "comment": "",
        "wrong_sources": [],
        "edit": "",
        "consent": True,
    }
    return {**ANSWERED, "client": "key:ada", **said, **changes}


def test_without_consent_nothing_is_used() -> None:
    found = feedback_rows([record(verdict="helpful", edit="x", wrong_sources=[1], consent=False)])
    assert (found.withheld, found.used) == (1, 0)
    assert not any(found.files.values())


def test_a_correction_is_a_pair_whose_prompt_has_the_numbers_that_are_cited() -> None:
    [row] = feedback_rows([record(edit="Every day [2].", comment="secret")], passages=2).pairs
    found = preference_of(Row(row, "f:1"))
    assert found.chosen[0].content == "Every day [1]."
    assert found.rejected[0].content == "In the shade [3]. Every day [1]."
    texts = [(p["path"], f"[{n}] {p['quote']}") for n, p in enumerate(PASSAGES, 1)]
    expected = build_messages(ANSWERED["question"], texts)  # type: ignore[arg-type]
    assert (found.prompt[0], found.prompt[-1]) == (expected[0], expected[-1])
    assert [turn.content for turn in found.prompt[1:3]] == ["Question: Hi", "Hello"]
    assert "secret" not in json.dumps(row)
    assert "ada" not in json.dumps(row)


def test_the_question_alone_has_answers_without_numbers() -> None:
    [row] = feedback_rows([record(edit="Every day [2], of course.")], passages=0).pairs
    assert row["prompt"][-1] == {"role": "user", "content": ANSWERED["question"]}
    assert row["chosen"] == "Every day, of course."
    assert row["rejected"] == "In the shade. Every day."


def test_an_edit_that_changes_nothing_is_no_pair() -> None:
    assert feedback_rows([record(edit=f" {ANSWERED['answer']}\n")]).pairs == []


@pytest.mark.parametrize(
    ("judged", "label"),
    [
        ({"verdict": "helpful"}, 1.0),
        ({"verdict": "not_helpful"}, 0.0),
        ({"verdict": "helpful", "wrong_sources": [1]}, 0.0),
        ({"wrong_sources": [1]}, 0.0),
        ({"comment": "hm"}, None),
    ],
)
def test_a_verdict_rates_the_answer_and_wrong_sources_count(
    judged: dict[str, Any], label: float | None
) -> None:
    rows = feedback_rows([record(**judged)]).ratings
    assert [rating.rating for row in rows for rating in ratings_of(Row(row, "f:1"))] == (
        [] if label is None else [label]
    )


def test_wrong_sources_do_not_answer_and_the_others_of_a_helpful_answer_do() -> None:
    records = [record(verdict="helpful", wrong_sources=[1]), record(wrong_sources=[2])]
    both, negative = (choices_of(Row(row, "f:1")) for row in feedback_rows(records).choices)
    assert (both.positives, both.negatives) == (("Every day.",), ("Lilies need shade.",))
    assert (negative.positives, negative.negatives) == ((), ("Every day.",))


def test_the_command_writes_what_was_agreed_to(tmp_path: Path, run: Run) -> None:
    store, output = FeedbackStore(tmp_path), tmp_path / "made"
    words = ("data", "feedback", "--index", str(tmp_path), "--output", str(output))
    store.save("r0", "c", FeedbackJudgement("helpful"), ANSWERED)
    refused = run(*words)
    assert refused.code != 0
    assert "there are 1 judgements, and none" in refused.err
    assert not output.exists()
    for number, edit in enumerate(("Every day [2].", "")):
        judged = FeedbackJudgement("not_helpful", "", (1,), edit, consent=True)
        store.save(f"s{number}", "c", judged, {**ANSWERED, "question": f"When {number}?"})
    done = run(*words, "--json").json
    assert done["used"] == 2
    assert done["withheld"] == 1
    names = {str(output / f"{name}.jsonl") for name in ("pairs", "ratings", "choices")}
    assert set(done["written"]) == names
    assert run(*words).code != 0  # nothing is written over
    files = [str(output / "pairs.jsonl"), str(output / "ratings.jsonl")]
    report = run("data", "preferences", *files, "--json").json
    assert (report["pairs"], report["answers"], report["bad_rows"]) == (1, 2, 0)
