"""`lmstack eval judge` as a user types it: scores, biases, a jury, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.evals.judging.judges import Judge, letters, shown_answers

from lmstack.app import wiring
from lmstack.core import ContextLengthError, ModelInfo, ScriptedModel, UnsupportedError

if TYPE_CHECKING:
    from tests.app.conftest import Run

GOOD, BAD = "good " * 10, "bad " * 10
PAIRS = [
    {
        "prompt": f"question {n}",
        "first": GOOD if n % 2 else BAD,
        "second": BAD if n % 2 else GOOD,
        "label": "first" if n % 2 else "second",
    }
    for n in range(30)
]
ANSWERS = [{"prompt": f"question {n}", "answer": f"{GOOD}{n}", "label": 4} for n in range(3)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, rows in (("pairs", PAIRS), ("answers", ANSWERS)):
        write(tmp_path / f"{name}.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def judges(monkeypatch: pytest.MonkeyPatch) -> dict[str | None, Any]:
    """The model for each name; the one without a name likes the place shown first more than what
    is good."""
    found: dict[str | None, Any] = {None: judge("judge", 2.0)}
    monkeypatch.setattr(wiring, "lazy_generator", lambda name, *_, **__: found[name])
    return found


def judge(name: str, place: float) -> Judge:
    logits = letters({GOOD: 1.0, BAD: 0.0}, place, 30)
    model = Judge(lambda prompt: {**logits(prompt), "C": 20.0}, "regex", "logprobs")
    model.info = ModelInfo(name)
    return model


def rated(score: int) -> str:
    names = ("accuracy", "completeness", "clarity", "reasoning")
    return json.dumps({name: {"reason": "So it is.", "score": score} for name in names})


def test_a_liking_for_a_place_is_said_in_words(run: Run, folder: Path, judges: Any) -> None:
    done = run("eval", "judge", "pairs.jsonl")
    assert done.code == 0, done.err
    said = {line.split("  ")[1].strip(): line for line in done.out.splitlines() if line[:1] == " "}
    assert "100.0 %" in said["same place in both orders"]
    position = next(line for line in done.out.splitlines() if "position" in line)
    assert "Prefers the place shown first" in position
    assert "+2.00" in position
    assert "0.0 %" in said["agrees with people"]
    assert "every judgement is in judgements.jsonl; 0 rows held no item" in done.err


def test_the_report_is_made_again_from_what_is_kept(run: Run, folder: Path, judges: Any) -> None:
    first = run("eval", "judge", "pairs.jsonl", "-o", "kept.jsonl", "--json").json
    asked = len(judges[None].requests)
    again = run("eval", "judge", "kept.jsonl", "--report", "--json")
    assert again.json["reports"] == first["reports"]
    assert len(judges[None].requests) == asked == 60
    (report,) = first["reports"]
    named = [bias["name"] for bias in report["biases"] if bias["named"]]
    assert named == ["position"]
    assert report["agreement"]["accuracy"]["value"] == 0.0  # every pair is a tie
    refused = run("eval", "judge", "pairs.jsonl", "--report")
    assert refused.code == 1
    assert "no row of judgements" in refused.err
    assert "is there already" in run("eval", "judge", "pairs.jsonl", "-o", "kept.jsonl").err


def test_stopped_it_goes_on_where_it_was(
    run: Run, folder: Path, judges: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, words = Judge.stream, ("eval", "judge", "pairs.jsonl", "--at-once", "2")

    def stops(self: Judge, request: Any) -> Any:
        if len(self.requests) >= 12:
            raise KeyboardInterrupt
        return whole(self, request)

    monkeypatch.setattr(Judge, "stream", stops)
    stopped = run(*words)
    assert stopped.code != 0
    assert "what was judged so far is in judgements.jsonl.unfinished" in stopped.err
    monkeypatch.setattr(Judge, "stream", whole)
    assert "other settings: rules" in run(*words, "--question", "Which is shorter?").err
    assert run(*words).code == 0
    assert len(judges[None].requests) == 60


def test_a_jury_decides_and_says_how_far_it_agrees(run: Run, folder: Path, judges: Any) -> None:
    judges |= {"a": judge("a", 0), "b": judge("b", 0), "c": ScriptedModel(["neither"], name="c")}
    words = ("eval", "judge", "pairs.jsonl", "--judge", "a", "--judge", "b")
    done = run(*words, "--judge", "c", "-o", "three.jsonl")
    assert done.code == 0, done.err
    assert "jury of 3" in done.out
    assert "30 could not be read" in done.out
    rows = [json.loads(line) for line in Path("three.jsonl").read_text().splitlines()]
    assert [row["jury"] for row in rows] == [row["label"] for row in PAIRS]
    found = run(*words, "-o", "two.jsonl", "--json").json
    assert found["jury"]["alpha"]["value"] == 1.0
    twice = run("eval", "judge", "pairs.jsonl", "--judge", "a", "--judge", "a", "-o", "x.jsonl")
    assert "named twice" in twice.err


def test_answers_are_rated_with_repeats(run: Run, folder: Path, judges: Any) -> None:
    model = ScriptedModel([rated(4)] * 3 + ["no", rated(5)] + [rated(3)])
    judges[None] = model
    words = ("eval", "judge", "answers.jsonl", "--repeats", "2", "--at-once", "1")
    (report,) = run(*words, "--json").json["reports"]
    assert report["scores"]["overall"]["value"] == 4
    assert report["agreement"]["accuracy"]["value"] == 1
    assert report["repeats"]["items"] == 3
    drawn = [request.sampling for request in model.requests if request.sampling.temperature]
    assert {sampling.temperature for sampling in drawn} == {0.7}
    assert len({sampling.seed for sampling in drawn}) == 6


def test_of_two_labels_one_fits(run: Run, folder: Path, judges: Any) -> None:
    def logits(prompt: str) -> dict[str, float]:
        assert "A: refuses" in prompt or "B: refuses" in prompt
        refuses = "sorry" in shown_answers(prompt)["answer"]
        is_first = "A: refuses" in prompt
        return {"A": 30 + 2.0 * (refuses == is_first), "B": 30 + 2.0 * (refuses != is_first)}

    judges[None] = Judge(logits, "regex", "logprobs")
    rows = [
        {"prompt": str(n), "answer": "sorry" if n % 2 else "yes", "label": "refuses"}
        for n in range(4)
    ]
    write(folder / "labelled.jsonl", rows)
    words = ("eval", "judge", "labelled.jsonl", "--label", "refuses", "--label", "complies")
    (report,) = run(*words, "--json").json["reports"]
    assert report["scores"]["refuses"]["value"] == 0.5
    assert report["agreement"]["accuracy"]["value"] == 0.5


def test_what_is_too_long_is_counted(run: Run, folder: Path, judges: Any) -> None:
    judges[None] = ScriptedModel([ContextLengthError("too long")])
    done = run("eval", "judge", "answers.jsonl")
    assert done.code == 0, done.err
    assert "3 too long for the judge" in done.out


def test_a_model_that_cannot_chat_cannot_judge(run: Run, folder: Path, judges: Any) -> None:
    judges[None] = ScriptedModel([UnsupportedError("it has no chat template")], name="base")
    done = run("eval", "judge", "pairs.jsonl")
    assert done.code == 1
    assert "base@0000000 cannot judge: it has no chat template" in done.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("pairs.jsonl", "--criterion", "clarity"), "--criterion does not apply"),
        (("pairs.jsonl", "--label", "a"), "--label does not apply"),
        (("answers.jsonl", "--no-ties"), "--no-ties does not apply"),
        (("answers.jsonl", "--label", "a"), "give --label twice"),
        (("answers.jsonl", "--criterion", "kindness"), "has no question"),
        (("answers.jsonl", "--question", "Is it?"), "--question does not apply"),
        (("pairs.jsonl", "answers.jsonl"), "30 of 33 rows have two answers"),
        (("none.jsonl",), "there is no item in none.jsonl"),
        (("missing.jsonl",), "missing.jsonl"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(
    run: Run, folder: Path, judges: Any, words: tuple[str, ...], message: str
) -> None:
    write(folder / "none.jsonl", [{"question": "?"}])
    done = run("eval", "judge", *words)
    assert done.code != 0
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_task_asks_its_judge(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "task.yaml").write_text(
        "name: asked\ndata: answers.jsonl\ninput: '{{prompt}}'\nscorer: {name: rubric}\n"
    )
    models = {
        "subject": ScriptedModel(["fine"], name="subject"),
        "judge": ScriptedModel([rated(2)]),
    }
    monkeypatch.setattr(wiring, "generator", lambda name, *_, **__: models[name])
    words = ("eval", "run", "task.yaml", "--model", "subject")
    refused = run(*words)
    assert refused.code == 1
    assert "--judge MODEL" in refused.err
    (result,) = run(*words, "--judge", "judge", "--json").json
    assert result["figures"]["overall"]["value"] == 2
    assert result["figures"]["parse_failures"]["value"] == 0
