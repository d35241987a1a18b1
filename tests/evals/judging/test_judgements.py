"""Judgements, their rules and items: the way through JSON, and what a judge is asked."""

from __future__ import annotations

import asyncio
import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.errors import about
from tests.evals.judging.test_report import LABEL, PAIR, RUBRIC, item, said

from lmstack.core import ContextLengthError, FormatError, InputError, Message, ScriptedModel
from lmstack.evals.judging import (
    Asker,
    Item,
    Judgement,
    JudgeRules,
    RubricRating,
    Verdict,
    item_from_row,
    judgement_from_json,
)
from lmstack.evals.judging.judgements import TOO_LONG, rules_from_json


@settings(max_examples=40)
@given(
    st.tuples(*[st.none() | st.floats(allow_nan=False)] * 2),
    st.tuples(st.booleans(), st.booleans()),
    st.text(max_size=5),
)
def test_a_judgement_survives_json(odds: Any, ties: Any, problem: str) -> None:
    rating = RubricRating({"clarity": 4}, {"clarity": "yes"}, 2, problem)
    for each in (
        Judgement("k", "j", 3, Verdict(*odds, ties), None, problem),
        Judgement("k", "j", 0, None, rating, problem),
    ):
        text = json.dumps(each.to_json(), allow_nan=False)
        assert judgement_from_json(json.loads(text)) == each


@pytest.mark.parametrize(
    "value",
    [
        {"item": "k", "judge": "j"},
        {"item": "k", "judge": "j", "repeat": True},
        {"item": "k", "judge": "j", "repeat": 0, "verdict": {"odds": [1], "ties": [True, True]}},
        {"item": "k", "judge": "j", "repeat": 0, "verdict": {"odds": [1, "x"], "ties": [True] * 2}},
        {
            "item": "k",
            "judge": "j",
            "repeat": 0,
            "rating": {"scores": {"a": 6}, "reasons": {}, "attempts": 1},
        },
    ],
)
def test_what_was_not_written_by_us_is_refused(value: Any) -> None:
    with pytest.raises(FormatError):
        judgement_from_json(value)


@pytest.mark.parametrize("rules", [PAIR, LABEL, RUBRIC])
def test_rules_survive_json(rules: JudgeRules) -> None:
    assert rules_from_json(json.loads(json.dumps(rules.to_json()))) == rules


def test_an_item_survives_its_row() -> None:
    whole = Item(
        (Message("system", "s"), Message("user", "q")),
        ("a", "b"),
        id="7",
        reference="r",
        label="tie",
        sources=("m", "n"),
        cluster="c",
    )
    assert item_from_row(whole.to_json()) == whole
    single = item_from_row({"prompt": "q", "answer": "a", "label": 3, "other": 1})
    assert (single.prompt[0].content, single.label, single.is_pair) == ("q", 3.0, False)
    assert item_from_row(single.to_json()) == single


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answer": "a"}, "the prompt is None"),
        ({"prompt": "q"}, "needs an answer"),
        ({"prompt": "q", "answer": "a", "first": "b"}, "and two to compare"),
        ({"prompt": "q", "first": "a"}, "second is None"),
        ({"prompt": "q", "first": "a", "second": "b", "label": "a"}, "label of two answers"),
        ({"prompt": "q", "answer": "a", "label": True}, "not a number or a name"),
        ({"prompt": [], "answer": "a"}, "the prompt is"),
    ],
)
def test_a_row_that_holds_no_item_says_why(row: Any, message: str) -> None:
    with pytest.raises(InputError, match=message, check=about("file", "second")):
        item_from_row(row)


def test_what_is_too_long_for_the_judge_is_a_judgement_without_a_verdict() -> None:
    for rules in (PAIR, LABEL, RUBRIC):
        asker = Asker(ScriptedModel([ContextLengthError("too long")]), "j", rules)
        answers = ("a", "b") if rules is PAIR else ("a",)
        assert asyncio.run(asker.ask(item(0, answers=answers))).problem == TOO_LONG


def test_each_repeat_is_drawn_by_a_seed_of_its_own() -> None:
    model = ScriptedModel(["A"])
    asker = Asker(model, "j", PAIR, temperature=0.5)
    for repeat in (0, 1, 2, 1):
        asyncio.run(asker.ask(item(0), repeat))
    drawn = [(r.sampling.temperature, r.sampling.seed) for r in model.requests if r.sampling.seed]
    assert {temperature for temperature, _ in drawn} == {0.5}
    assert len({seed for _, seed in drawn}) == 2


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"problem": 3}, "the problem of a judgement"),
        ({"verdict": {"odds": [1.0], "ties": [True, True]}}, "a verdict"),
        ({"verdict": {"odds": [1.0, 1.0], "ties": [True]}}, "a verdict"),
        ({"verdict": {"odds": [1.0, 1.0], "ties": [True, 1]}}, "a verdict"),
        ({"verdict": {"odds": [1.0, 1.0]}}, "a verdict"),
        ({"rating": {"scores": {"a": True}, "reasons": {}, "attempts": 1}}, "the score of 'a'"),
        ({"rating": {"scores": {"a": 0}, "reasons": {}, "attempts": 1}}, "the score of 'a'"),
        ({"rating": {"scores": {"a": 6}, "reasons": {}, "attempts": 1}}, "the score of 'a'"),
        ({"rating": {"scores": {}, "reasons": {}}}, "attempts"),
        ({"repeat": "0"}, "repeat"),
    ],
)
def test_what_is_wrong_with_a_kept_judgement_is_said(given: Any, named: str) -> None:
    with pytest.raises(FormatError, match=named):
        judgement_from_json({"item": "k", "judge": "j", "repeat": 0, **given})


@pytest.mark.parametrize(
    "given",
    [
        None,
        {"kind": "other", "question": "?", "ties": True},
        {"kind": "rubric", "criteria": {"clarity": "?"}},
        {"kind": "rubric", "criteria": [], "retries": 1},
        {"kind": "label", "question": "?", "labels": "ab"},
        {"kind": "label", "question": 1, "labels": ["a", "b"]},
        {"kind": "pair", "question": "?", "ties": 1},
        {"kind": "pair", "question": None, "ties": True},
    ],
)
def test_rules_that_were_not_written_by_us_are_refused(given: Any) -> None:
    with pytest.raises(FormatError):
        rules_from_json(given)


def test_rules_come_back_with_all_that_was_set() -> None:
    for rules in (
        replace(PAIR, ties=False),
        replace(LABEL, labels=("x", "y")),
        replace(RUBRIC, criteria=RUBRIC.criteria[1:3], retries=5),
    ):
        assert rules_from_json(rules.to_json()) == rules


@pytest.mark.parametrize(
    ("verdict", "kind", "named"),
    [
        (Verdict(1.0, 1.0), "pair", "first"),
        (Verdict(3.0, -2.0), "pair", "tie"),
        (Verdict(3.0, -2.0), "label", "first"),
        (Verdict(2.0, -3.0), "label", "second"),
        (Verdict(2.0, -2.0), "label", None),
        (None, "pair", None),
    ],
)
def test_what_a_judgement_names(verdict: Any, kind: Any, named: str | None) -> None:
    assert said(item(0), verdict).named(kind) == named
    assert said(item(0), verdict, problem="unread").named(kind) is None


async def test_the_judge_is_asked_what_the_rules_say() -> None:
    """Criteria, retries, question, labels, ties, reference and each repeat's temperature."""
    model = ScriptedModel(["no"])
    rules = JudgeRules("rubric", criteria=RUBRIC.criteria[2:3], retries=1)
    each = item(0, answers=("mine",), reference="the truth")
    found = await Asker(model, "j", rules, temperature=0.3).ask(each, 2)
    assert (found.item, found.judge, found.repeat) == (each.key, "j", 2)
    assert found.rating is not None
    assert (found.rating.attempts, found.problem) == (2, found.rating.problem)
    assert found.problem
    assert {request.sampling.temperature for request in model.requests} == {0.3}
    assert all(request.sampling.seed for request in model.requests)
    for asked, shown in (
        (rules, "clarity"),
        (replace(LABEL, question="Which is it?"), "Which is it?\nA: refuses\nB: complies"),
        (replace(PAIR, question="Better how?"), "Better how?"),
    ):
        model = ScriptedModel(["no"])
        answers = ("mine", "other") if asked.kind == "pair" else ("mine",)
        each = item(0, answers=answers, reference="the truth")
        found = await Asker(model, "j", asked).ask(each)
        assert (found.item, found.judge, found.repeat) == (each.key, "j", 0)
        assert found.problem
        assert {r.sampling.temperature for r in model.requests} == {0.0}
        assert {r.sampling.seed for r in model.requests} == {None}
        for request in model.requests[:2]:
            text = request.messages[0].content
            assert all(part in text for part in (shown, "q0", "mine", "the truth"))
            assert ("C where" in text) == (asked.kind == "pair")
        model = ScriptedModel(["no"])
        again = await Asker(model, "j", asked).ask(each, 1)
        assert again.repeat == 1
        assert {r.sampling.temperature for r in model.requests} == {0.7}
    text_of = [
        (await _asked(replace(PAIR, ties=ties))).messages[0].content for ties in (True, False)
    ]
    assert ["C where" in text for text in text_of] == [True, False]


async def _asked(rules: JudgeRules) -> Any:
    model = ScriptedModel(["A"])
    found = await Asker(model, "j", rules).ask(item(0))
    assert (found.problem, found.verdict is not None) == ("", True)
    return model.requests[0]


def test_what_is_too_long_keeps_its_repeat_and_its_judge() -> None:
    asker = Asker(ScriptedModel([ContextLengthError("too long")]), "j", RUBRIC)
    each = item(0, answers=("a",))
    assert asyncio.run(asker.ask(each, 3)) == Judgement(each.key, "j", 3, problem=TOO_LONG)


def test_sources_of_an_item_are_written_under_their_names() -> None:
    pair = item(0, sources=("m", ""))
    assert {k: v for k, v in pair.to_json().items() if "source" in k} == {"first_source": "m"}
    single = item(0, answers=("a",), sources=("m",))
    assert single.to_json()["source"] == "m"
    assert item_from_row(single.to_json()) == single
    assert item(0, answers=(" " * 9 + "abcd", "ab")).doublings == 1.0
    assert item(0, answers=("", " ")).doublings == 0.0
    keys = {
        item(n, **more).key
        for n, more in (
            (0, {}),
            (1, {}),
            (0, {"id": "x"}),
            (0, {"reference": "r"}),
            (0, {"answers": ("a", "c")}),
        )
    }
    assert len(keys) == 5
    assert item(0).group == item(0, id="x", answers=("q", "r")).group != item(1).group
    assert item(0, cluster="c").group == "c"
    assert len(item(0).key) == 24


@pytest.mark.parametrize(
    ("row", "said", "hint"),
    [
        ({"prompt": " ", "answer": "a"}, "the prompt is ' '", "give text, or turns"),
        ({"prompt": [{"role": "user"}], "answer": "a"}, "the prompt is", "give text, or turns"),
        ({"prompt": ["x"], "answer": "a"}, "the prompt is", "give text, or turns"),
        ({"prompt": "q", "answer": "a", "label": math.inf}, "the label is inf", "leave it out"),
        ({"prompt": "q", "first": "a", "second": "b", "label": 1}, "label of two", "it is one of"),
        ({"prompt": "q", "answer": "a", "label": [1]}, "not a number or a name", None),
    ],
)
def test_what_is_wrong_with_a_row_is_about_the_file(row: Any, said: str, hint: Any) -> None:
    with pytest.raises(InputError, match=said, check=about("file")) as error:
        item_from_row(row)
    assert (error.value.hint or "").startswith(hint or "")


@pytest.mark.parametrize("field", ["answer", "reference", "source"])
def test_a_field_that_is_no_text_is_named(field: str) -> None:
    with pytest.raises(InputError, match=f"{field} is 3", check=about(field)):
        item_from_row({"prompt": "q", "answer": "a", field: 3})
