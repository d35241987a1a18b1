"""Verdicts, labels, and which items become rows to train on."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about

from lmstack.core import InputError, Message
from lmstack.pipelines.constitution.datasets import preference_rows, sft_rows, write_rows
from lmstack.pipelines.constitution.labels import PairLabel, PrincipleVerdict
from lmstack.pipelines.constitution.prompts import ReadPrompts, key_of, read_prompts
from lmstack.train.data.formats import messages_of, preference_of
from lmstack.train.data.rows import Row

SHARE = st.floats(0, 1)


def label(*probabilities: float | None) -> PairLabel:
    return PairLabel(tuple(PrincipleVerdict(f"p{n}", p, p, p) for n, p in enumerate(probabilities)))


@given(st.lists(SHARE, min_size=1, max_size=5))
def test_the_other_way_round_the_label_is_the_opposite(found: list[float]) -> None:
    one, other = label(*found), label(*(1 - p for p in found))
    assert one.probability is not None
    assert other.probability is not None
    assert math.isclose(one.probability + other.probability, 1, abs_tol=1e-12)
    assert one.disagree == other.disagree
    if one.chosen is not None and other.chosen is not None:
        assert one.chosen + other.chosen == 1


def test_no_verdict_is_no_label_and_an_even_one_chooses_nothing() -> None:
    assert label().probability is None
    assert label(None).chosen is None
    assert label(0.5).chosen is None
    assert label(None, 0.75).probability == 0.75
    assert label(0.9, 0.5).disagree is False
    assert label(0.9, 0.4).disagree is True


def test_a_judge_that_takes_what_stands_first_flips_and_its_bias_is_seen() -> None:
    verdict = PrincipleVerdict("p", shown_first=0.9, shown_second=0.2, probability=0.55)
    assert verdict.flips
    assert verdict.position_bias == pytest.approx(0.35)
    assert not PrincipleVerdict("p", 0.9, 0.6, 0.8).flips
    assert PrincipleVerdict("p", None, 0.6, 0.6).position_bias is None


def prompts(*texts: str) -> ReadPrompts:
    found = [(Message("user", text),) for text in texts]
    return ReadPrompts({key_of(prompt): prompt for prompt in found}, (), 0)


def test_rows_are_of_the_formats_that_the_objectives_read_and_reasons_are_counted() -> None:
    asked = prompts("one?", "two?", "three?", "four?", "five?", "six?")
    one, two, three, four, five, six = asked.by_key
    revised = {
        one: {"text": "better", "finish": "stop"},
        two: {"text": "cut", "finish": "length"},
        three: {"problem": "the answer is empty"},
    }
    rows = sft_rows(asked, revised)
    (row,) = rows.rows
    assert messages_of(Row(row, ""))[-1] == Message("assistant", "better")
    assert row["key"] == one
    assert rows.left_out == {"cut off at its longest": 1, "no revision": 1, "no critique": 3}

    def pair(a: str, b: str, finish: str = "stop") -> dict[str, object]:
        return {"texts": [a, b], "finishes": ["stop", finish]}

    answers: dict[str, dict[str, object]] = {
        one: pair("a", "b"),
        two: pair("a", "a"),
        three: pair("a", "b", "length"),
        four: pair("a", "b"),
        five: pair("a", "b"),
        six: {"problem": "the answer is empty"},
    }
    labels = {one: label(0.2), three: label(0.2), four: label(0.55), five: label(None)}
    found = preference_rows(asked, answers, labels, 0.6)
    (row,) = found.rows
    preference = preference_of(Row(row, ""))
    assert preference.chosen == (Message("assistant", "b"),)
    assert preference.rejected == (Message("assistant", "a"),)
    assert preference.probability == 0.8
    assert found.left_out == {
        "twice the same answer": 1,
        "cut off at its longest": 1,
        "below the probability 0.6": 1,
        "without a verdict": 1,
        "no two answers": 1,
    }


def test_everything_that_is_left_out_is_counted_and_the_most_frequent_named_first() -> None:
    asked = prompts(*(f"{n}?" for n in range(12)))
    keys = list(asked.by_key)
    same, cut, plain = (
        {"texts": list(t), "finishes": f}
        for t, f in (("aa", ["stop"] * 2), ("ab", ["length", "stop"]), ("ab", ["stop"] * 2))
    )
    answers = dict(zip(keys, [same, same, cut, cut, *[plain] * 6], strict=False))
    labels = {keys[4]: label(0.6), keys[5]: label(0.59), keys[6]: label(0.5)}
    labels |= {keys[7]: label(0.42), keys[8]: label(None)}  # and of the next nobody said anything
    found = preference_rows(asked, answers, labels, 0.6)
    assert [(row["chosen"], row["probability"], row["key"]) for row in found.rows] == [
        ("a", 0.6, keys[4])
    ]
    wanted = {"twice the same answer": 2, "cut off at its longest": 2, "no two answers": 2}
    assert found.left_out == {**wanted, "below the probability 0.6": 2, "without a verdict": 3}
    assert found.reasons.startswith("3 without a verdict, 2 twice the same answer, 2 cut ")
    cuts = {key: {"text": "x", "finish": "length"} for key in keys[:3]}
    bad = {key: {"problem": "empty"} for key in keys[3:5]}
    rows = sft_rows(asked, {**cuts, **bad})
    assert rows.left_out == {"cut off at its longest": 3, "no revision": 2, "no critique": 7}


def test_a_set_that_says_the_same_is_left_as_it_is(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.jsonl", [{"text": "\u00e4"}, {"n": 1}]
    write_rows(path, rows)
    assert path.read_text(encoding="utf-8") == '{"text": "\u00e4"}\n{"n": 1}\n'
    before = path.stat().st_ino
    write_rows(path, rows)
    assert path.stat().st_ino == before
    write_rows(path, rows[:1])
    assert path.read_text(encoding="utf-8") == '{"text": "\u00e4"}\n'


def test_prompts_are_used_once_and_a_share_is_the_same_every_time(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{n % 20}"} for n in range(30)]
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + '\n{"text": "no prompt"}\n{broken')
    every = read_prompts([str(path)])
    assert (len(every.by_key), every.repeated, len(every.left_out)) == (20, 10, 2)
    few = read_prompts([str(path)], 5, seed=1)
    assert list(few.by_key) == [key for key in every.by_key if key in few.by_key]
    assert len(few.by_key) == 5
    for seed in (0, 2):
        assert read_prompts([str(path)], 5, seed).by_key.keys() != few.by_key.keys()
    assert every.left_out[0].reason.startswith("the row has no prompt")
    path.write_text('{"text": "no prompt"}\n')
    said = f"there is no prompt in {path}; {path}:1: the row has no prompt"
    with pytest.raises(InputError, match=said, check=about("data")):
        read_prompts([str(path)])
    path.write_text("")
    with pytest.raises(InputError, match=rf"there is no prompt in {path} \(", check=about("data")):
        read_prompts([str(path)])
