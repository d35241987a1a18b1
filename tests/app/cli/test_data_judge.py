"""`lmstack data judge`: labels with their probability, checked against those that there are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.evals.judging.judges import Judge, letters

from lmstack.app import wiring
from lmstack.core import ContextLengthError

if TYPE_CHECKING:
    from tests.app.conftest import Run

QUALITY = {"good": 2.0, "fair": 1.0, "bad": -1.0, "too long": 0.0}


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    """Likes the place shown first by 1.5, more than ``fair`` is better or worse than ``good``."""
    logits = letters(QUALITY, 1.5, 30)

    def asked(prompt: str) -> Any:
        if "too long" in prompt:
            raise ContextLengthError("too long")
        return logits(prompt)

    found = Judge(asked, "regex", "logprobs")
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: found)
    return found


@pytest.fixture
def write(tmp_path: Path) -> Callable[[list[dict[str, Any]]], str]:
    def written(rows: list[dict[str, Any]]) -> str:
        path = tmp_path / "in.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return str(path)

    return written


PAIRS = [
    {"prompt": "1", "chosen": "good", "rejected": "bad"},
    {"prompt": "2", "chosen": "fair", "rejected": "good"},
    {"prompt": "3", "chosen": "bad", "rejected": "too long"},
]
Read = Callable[[Path], list[dict[str, Any]]]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_labels_are_kept_and_doubted_and_both_orders_are_told(
    judge: Judge, write: Any, tmp_path: Path, run: Run
) -> None:
    file, output = write([*PAIRS, PAIRS[0], {"prompt": "4"}]), tmp_path / "out.jsonl"
    done = run("data", "judge", file, "--output", str(output))
    assert done.code == 0, done.err
    said = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in done.out.splitlines()}
    assert said["pairs"] == "3; 1 rows hold none"
    assert said["left out"] == "0 undecided, 1 too long"
    assert said["both orders agree"] == "on 50.0% of the pairs"
    assert said["shown first is worth"].startswith("+1.50 log-odds")
    assert said["labels it shares"].startswith("50.0% of 2")
    kept = read(output)
    assert [row["chosen"] for row in kept] == ["good", "fair"]
    assert [row["probability"] for row in kept] == pytest.approx([0.952574, 0.268941], abs=1e-6)
    assert {row["judge"] for row in kept} == {"judge"}
    report = run("data", "preferences", str(output), "--json").json
    assert report["doubted"] == 1


def test_labels_change_and_orders_that_differ_are_left_out_where_that_is_asked(
    judge: Judge, write: Any, tmp_path: Path, run: Run
) -> None:
    file = write(PAIRS)
    words = ("data", "judge", file, "--output")
    run(*words, str(tmp_path / "a.jsonl"), "--relabel")
    assert [row["chosen"] for row in read(tmp_path / "a.jsonl")] == ["good", "good"]
    run(*words, str(tmp_path / "b.jsonl"), "--agreeing")
    assert [row["prompt"] for row in read(tmp_path / "b.jsonl")] == ["1"]


def test_completions_are_compared_two_by_two_and_what_was_judged_is_not_judged_again(
    judge: Judge, write: Any, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, output = (
        write([{"prompt": "1", "completions": ["bad", "good", "fair", "bad"]}]),
        "o.jsonl",
    )
    words = ("data", "judge", file, "--output", str(tmp_path / output))
    monkeypatch.setattr("lmstack.app.cli.commands.data_judge._BATCH", 1)
    whole, asked = Judge.stream, len(judge.requests)

    def stops(self: Judge, request: Any) -> Any:
        if len(self.requests) >= asked + 4:
            raise KeyboardInterrupt
        return whole(self, request)

    monkeypatch.setattr(Judge, "stream", stops)
    assert run(*words).code != 0
    monkeypatch.setattr(Judge, "stream", whole)
    before = len(judge.requests)
    other = run(*words, "--criterion", "Which is shorter?")
    assert "begun with other settings" in other.err
    found = run(*words, "--json").json
    assert (found["pairs"], found["written"]) == (3, 3)
    assert len(judge.requests) == before + 2
    kept = [(row["chosen"], row["rejected"]) for row in read(tmp_path / output)]
    assert kept == [("good", "bad"), ("fair", "bad"), ("good", "fair")]
    assert "is there already" in run(*words).err


def test_every_answer_is_rated_once_and_ratings_become_pairs(
    write: Any, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def digits(prompt: str) -> dict[str, float]:
        if "too long" in prompt:
            raise ContextLengthError("too long")
        best = "5" if "good" in prompt else "2"
        return {digit: 40.0 if digit == best else 10.0 for digit in "12345"}

    rater = Judge(digits, "regex", "logprobs")
    monkeypatch.setattr(wiring, "lazy_generator", lambda *_, **__: rater)
    more = [
        {"prompt": "1", "completions": ["good", "fair"]},
        {"prompt": "1", "completion": "fair", "label": True},
        {"prompt": "5"},
    ]
    file, output = write([*PAIRS, *more]), tmp_path / "rated.jsonl"
    done = run("data", "rate", file, "--output", str(output), "--json").json
    assert (done["answers"], done["written"], done["bad_rows"]) == (7, 6, 1)
    assert [round(row["rating"], 6) for row in read(output)] == [5, 2, 2, 5, 2, 2]
    assert {row["rater"] for row in read(output)} == {"judge"}
    report = run("data", "preferences", str(output), "--json").json
    assert (report["pairs"], report["ties"], report["unpaired"]) == (3, 1, 1)
    assert "is there already" in run("data", "rate", file, "--output", str(output)).err
