"""MT-Bench: what the judge is shown, and what is read from its replies."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.benchmarks.models import chat_subject, output_of, replying

from lmstack.core import FormatError, InputError, Request, SamplingParams, ScriptedModel, complete
from lmstack.evals.benchmarks.mt_bench import (
    JudgePrompts,
    TwoTurnSolver,
    mt_bench,
    mt_bench_pairs,
    mt_bench_samples,
    rating_in,
    verdict_in,
)
from lmstack.evals.task import ModelOutput, Task

QUESTIONS = [
    {"question_id": 81, "category": "writing", "turns": ["Write {it}.", "Shorter."]},
    {"question_id": 101, "category": "math", "turns": ["1 + 1?", "And 2 + 2?"]},
]
REFERENCES = [{"question_id": 101, "choices": [{"index": 0, "turns": ["It is 2.", "It is 4."]}]}]
_DIALOGUE = "{question_1}|{answer_1}|{question_2}|{answer_2}"
_PAIR = "{question_1}|{question_2}|{answer_a_1}|{answer_a_2}|{answer_b_1}|{answer_b_2}"
TEMPLATES = {
    "single-v1": "{question}|{answer}",
    "single-v1-multi-turn": _DIALOGUE,
    "single-math-v1": "{ref_answer_1}|{question}|{answer}",
    "single-math-v1-multi-turn": "{ref_answer_1}|{ref_answer_2}|" + _DIALOGUE,
    "pair-v2": "{question}|{answer_a}|{answer_b}",
    "pair-v2-multi-turn": _PAIR,
    "pair-math-v1": "{ref_answer_1}|{question}|{answer_a}|{answer_b}",
    "pair-math-v1-multi-turn": "{ref_answer_1}|{ref_answer_2}|" + _PAIR,
}


def lines(rows: object) -> bytes:
    assert isinstance(rows, list)
    return "\n".join(map(json.dumps, rows)).encode()


PROMPTS = JudgePrompts.read(
    lines(
        [
            {"name": name, "system_prompt": f"judge {name}", "prompt_template": text}
            for name, text in TEMPLATES.items()
        ]
    )
)
SAMPLES = mt_bench_samples(lines(QUESTIONS), lines(REFERENCES))
ANSWERS = ModelOutput("b", facts={"turns": ["a", "b"]})


def rated(task: Task, place: int) -> Mapping[str, float]:
    return asyncio.run(task.scorer(SAMPLES[place], ANSWERS))


def test_the_second_turn_is_asked_with_the_first_answer_in_its_conversation() -> None:
    model = replying("one", "two")
    output = output_of(mt_bench(SAMPLES, replying(""), PROMPTS, source="s"), chat_subject(model), 1)
    assert output.facts["turns"] == ["one", "two"]
    said = [[(m.role, m.content) for m in request.messages] for request in model.requests]
    assert said[0] == [("user", "1 + 1?")]
    assert said[1] == [*said[0], ("assistant", "one"), ("user", "And 2 + 2?")]


@pytest.mark.parametrize(("place", "temperature"), [(0, 0.7), (1, 0.0)])
def test_the_temperature_is_that_of_the_category(place: int, temperature: float) -> None:
    model = replying("x")
    output_of(mt_bench(SAMPLES, replying(""), PROMPTS, source="s"), chat_subject(model), place)
    assert {request.sampling.temperature for request in model.requests} == {temperature}


@pytest.mark.parametrize(
    ("place", "shown"),
    [
        (0, {"single-v1": "Write {it}.|a", "single-v1-multi-turn": "Write {it}.|a|Shorter.|b"}),
        (
            1,
            {
                "single-math-v1": "It is 2.|1 + 1?|a",
                "single-math-v1-multi-turn": "It is 2.|It is 4.|1 + 1?|a|And 2 + 2?|b",
            },
        ),
    ],
)
def test_each_turn_is_rated_by_the_prompt_of_its_category(
    place: int, shown: Mapping[str, str]
) -> None:
    judge = replying("Good. Rating: [[7]]", "[[8.5]]")
    scores = rated(mt_bench(SAMPLES, judge, PROMPTS, source="s"), place)
    assert scores == {"turn_1": 7, "turn_2": 8.5, "sum": 15.5, "ratings": 2, "failures": 0}
    found = {r.messages[0].content: r.messages[1].content for r in judge.requests}
    assert found == {f"judge {name}": text for name, text in shown.items()}
    assert {request.sampling.temperature for request in judge.requests} == {0}


@pytest.mark.parametrize(
    ("text", "rating"),
    [("[[7]] then [[9]]", 7), ("[6.5]", 6.5), ("[3] but [[4]]", 4), ("7", None), ("[[x]]", None)],
)
def test_a_rating_is_read_from_double_or_else_single_brackets(
    text: str, rating: float | None
) -> None:
    found = rating_in(text)
    assert math.isnan(found) if rating is None else found == rating


def test_a_reply_without_a_rating_is_counted_and_left_out() -> None:
    task = mt_bench(SAMPLES, replying("no idea", "[[4]]"), PROMPTS, source="s")
    scores = rated(task, 0)
    assert math.isnan(scores["turn_1"])
    assert (scores["sum"], scores["ratings"], scores["failures"]) == (4, 1, 0.5)
    statistic = task.metrics[0].statistic
    assert statistic(np.array([[4.0, 1.0], [16.0, 2.0]])) == pytest.approx(20 / 3)
    silent = rated(mt_bench(SAMPLES, replying("no idea"), PROMPTS, source="s"), 0)
    assert math.isnan(silent["sum"])
    assert math.isnan(silent["ratings"])
    assert silent["failures"] == 1


def choosing(first: str, second: str) -> ScriptedModel:
    """Says ``first`` where this model's answer is A, else ``second``."""

    def reply(request: Request) -> str:
        shown = request.messages[-1].content.split("|")
        return first if shown.index("mine") < shown.index("other") else second

    return ScriptedModel([reply])


@pytest.mark.parametrize(
    ("first", "second", "win", "flips"),
    [
        ("[[A]]", "[[B]]", 1, 0),
        ("[[B]]", "[[A]]", 0, 0),
        ("[[A]]", "[[A]]", 0.5, 1),
        ("[[B]]", "[[B]]", 0.5, 1),
        ("[[C]]", "[[A]]", 0.5, 0),
        ("[[C]]", "[[C]]", 0.5, 0),
    ],
)
def test_only_what_both_orders_say_is_a_win(
    first: str, second: str, win: float, flips: float
) -> None:
    others = {sample.id: ("other", "other") for sample in SAMPLES}
    task = mt_bench_pairs(SAMPLES, choosing(first, second), PROMPTS, others, source="s")
    output = ModelOutput("mine", facts={"turns": ["mine", "mine"]})
    for sample in SAMPLES:
        scores = asyncio.run(task.scorer(sample, output))
        assert scores == {"win_1": win, "win_2": win, "flips": flips, "failures": 0}


def test_an_order_without_a_verdict_is_no_tie() -> None:
    others = {sample.id: ("other", "other") for sample in SAMPLES}
    task = mt_bench_pairs(SAMPLES, choosing("[[A]]", "hm"), PROMPTS, others, source="s")
    scores = asyncio.run(
        task.scorer(SAMPLES[0], ModelOutput("", facts={"turns": ["mine", "mine"]}))
    )
    assert math.isnan(scores["win_1"])
    assert scores["failures"] == 0.5


@given(st.text())
def test_no_reply_breaks_the_reading(text: str) -> None:
    rating = rating_in(text)
    assert math.isnan(rating) or rating >= 0
    assert verdict_in(text) in (None, "A", "B", "tie")


def test_a_question_that_needs_a_reference_has_one() -> None:
    with pytest.raises(FormatError, match="question 101"):
        mt_bench_samples(lines(QUESTIONS))


def test_other_prompts_or_answers_change_the_protocol() -> None:
    judge = replying("")
    fewer = JudgePrompts({name: PROMPTS.by_name[name] for name in list(TEMPLATES)[:2]})
    one = mt_bench(SAMPLES, judge, PROMPTS, source="s").protocol
    assert one != mt_bench(SAMPLES, judge, fewer, source="s").protocol
    pairs = [
        mt_bench_pairs(SAMPLES, judge, PROMPTS, {"x": (text, "")}, source="s").protocol
        for text in ("a", "b")
    ]
    assert pairs[0] != pairs[1]
    datasets = (
        mt_bench(SAMPLES, judge, PROMPTS, source="s").dataset,
        mt_bench_pairs(SAMPLES, judge, PROMPTS, {"x": ("a", "")}, source="s").dataset,
    )
    assert {(each.name, each.source) for each in datasets} == {("mt_bench", "s")}
    with pytest.raises(InputError, match="single-math-v1", check=about("prompts")):
        rated(mt_bench(SAMPLES, judge, fewer, source="s"), 1)


def test_a_category_without_a_temperature_is_drawn_and_everything_is_counted() -> None:
    """All tokens of both turns, by a seed of the sample, and no more than asked for."""
    (travel,) = mt_bench_samples(lines([{**QUESTIONS[0], "category": "travel"}]))
    model = replying("one", "two words")
    output = output_of(
        replace(mt_bench([travel], replying(""), PROMPTS, source="s"), solver=TwoTurnSolver(77, 5)),
        chat_subject(model),
    )
    seed = zlib.crc32(b"5/mt_bench/81")
    asked = SamplingParams(temperature=0.7, max_tokens=77, seed=seed)
    assert [request.sampling for request in model.requests] == [asked] * 2
    usages = [
        asyncio.run(complete(replying(text), request)).usage
        for text, request in zip(("one", "two words"), model.requests, strict=True)
    ]
    assert output.prompt_tokens == sum(usage.prompt_tokens for usage in usages)
    assert output.completion_tokens == sum(usage.completion_tokens for usage in usages)
    assert (output.text, output.finish_reason, output.likelihoods) == ("two words", "stop", ())
    assert TwoTurnSolver().protocol == {
        **TwoTurnSolver(77, 5).protocol,
        "max_tokens": 1024,
        "seed": 0,
    }
    assert set(TwoTurnSolver().protocol) == {"asks", "temperatures", "max_tokens", "seed"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"turns": ["a"]}, "row 2 of MT-Bench has the turns"),
        ({"turns": ["a", 1]}, "row 2 of MT-Bench has the turns"),
        ({"turns": "ab"}, "row 2 of MT-Bench has the turns"),
    ],
)
def test_a_question_without_two_texts_is_refused(row: Any, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        mt_bench_samples(lines([QUESTIONS[0], {**QUESTIONS[0], **row}]))
    with pytest.raises(InputError, match="row 1 of MT-Bench", check=about("category")):
        mt_bench_samples(lines([{**QUESTIONS[0], "category": None}]))


@pytest.mark.parametrize(
    "choices", [[], None, [{}], [{"turns": ["one"]}], [{"turns": ["one", "two", "three"]}]]
)
def test_a_reference_has_two_turns(choices: Any) -> None:
    with pytest.raises(FormatError, match="turns"):
        mt_bench_samples(lines(QUESTIONS), lines([{"question_id": 101, "choices": choices}]))


def test_the_first_choice_is_the_reference_and_only_where_one_is_needed() -> None:
    answers = [
        {"question_id": 81, "choices": [{"turns": ["x", "y"]}]},
        {"question_id": 101, "choices": [{"turns": [2, "four"]}, {"turns": ["no", "no"]}]},
    ]
    plain, math_ = mt_bench_samples(lines(QUESTIONS), lines(answers))
    assert (plain.id, plain.input) == ("mt_bench/81", "Write {it}.")
    assert plain.metadata == {"turns": QUESTIONS[0]["turns"], "category": "writing"}
    assert math_.metadata["references"] == ["2", "four"]


def test_prompts_that_cannot_be_filled_in_and_missing_answers_are_named() -> None:
    broken = JudgePrompts(dict.fromkeys(TEMPLATES, ("s", "{nothing}")))
    with pytest.raises(InputError, match="single-v1 cannot be filled in", check=about("prompts")):
        rated(mt_bench(SAMPLES, replying(""), broken, source="s"), 0)
    pairs = mt_bench_pairs(SAMPLES, replying(""), PROMPTS, {}, source="s")
    with pytest.raises(InputError, match="no answers to mt_bench/81", check=about("others")):
        rated(pairs, 0)
    row = {"name": "a", "system_prompt": "b", "prompt_template": "c"}
    for name in row:
        with pytest.raises(InputError, match="row 2 of the judge's prompts", check=about(name)):
            JudgePrompts.read(lines([row, {**row, name: 1}]))


def test_both_orders_show_each_answer_in_its_place() -> None:
    judge = ScriptedModel(["[[C]]"])
    task = mt_bench_pairs(SAMPLES, judge, PROMPTS, {SAMPLES[0].id: ("o1", "o2")}, source="s")
    output = ModelOutput("m2", facts={"turns": ["m1", "m2"]})
    scores = asyncio.run(task.scorer(SAMPLES[0], output))
    assert scores == {"win_1": 0.5, "win_2": 0.5, "flips": 0, "failures": 0}
    assert sorted(request.messages[1].content for request in judge.requests) == [
        "Write {it}.|Shorter.|m1|m2|o1|o2",
        "Write {it}.|Shorter.|o1|o2|m1|m2",
        "Write {it}.|m1|o1",
        "Write {it}.|o1|m1",
    ]
    assert [(m.name, m.columns, m.better, m.is_share) for m in task.metrics] == [
        *((name, (name,), "higher", False) for name in ("win_1", "win_2")),
        *((name, (name,), "lower", False) for name in ("flips", "failures")),
    ]
    assert (task.name, task.scorer.is_costly) == ("mt_bench_pairs", True)
    given = mt_bench(SAMPLES, judge, PROMPTS, source="s")
    assert [(m.name, m.columns, m.better, m.is_share, m.decimals) for m in given.metrics] == [
        ("rating", ("sum", "ratings"), "higher", False, 2),
        ("turn_1", ("turn_1",), "higher", False, 2),
        ("turn_2", ("turn_2",), "higher", False, 2),
        ("parse_failures", ("failures",), "lower", False, 3),
    ]
    assert given.name == "mt_bench"
    scored = {"judge": judge.info.name, "judge_digest": judge.info.digest, "temperature": 0}
    assert given.scorer.protocol == {"scores": "ratings", "prompts": PROMPTS.digest, **scored}
    assert set(task.scorer.protocol) == {"others", *given.scorer.protocol}


def test_a_win_of_one_turn_is_of_that_turn() -> None:
    """The first turn is won, the second has no verdict in one order."""

    def reply(request: Request) -> str:
        shown = request.messages[1].content.split("|")
        if len(shown) > 3:
            return "[[A]]" if shown[2] == "m1" else "?"
        return "[[A]]" if shown[1] == "m1" else "[[B]]"

    others = {SAMPLES[0].id: ("o1", "o2")}
    task = mt_bench_pairs(SAMPLES, ScriptedModel([reply]), PROMPTS, others, source="s")
    scores = asyncio.run(task.scorer(SAMPLES[0], ModelOutput("m2", facts={"turns": ["m1", "m2"]})))
    assert (scores["win_1"], scores["flips"], scores["failures"]) == (1, 0, 0.25)
    assert math.isnan(scores["win_2"])


def test_a_verdict_is_read_by_its_mark_and_of_several_the_first_counts() -> None:
    texts = ("so [[A]]", "[[B]]", "[[C]]", "[[C]] or [[B]]", "[[B]] [[A]]", "[A]", "[[c]]")
    assert [verdict_in(text) for text in texts] == ["A", "B", "tie", "B", "A", None, None]
