"""The report on judgements: counts, agreement, repeats, and the way through JSON."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score
from tests.errors import about

from lmstack.core import ContextLengthError, FormatError, InputError, Message, ScriptedModel
from lmstack.evals.judging import (
    Asker,
    Item,
    Judgement,
    RubricRating,
    Rules,
    Verdict,
    item_from_row,
    judge_report,
    judgement_from_json,
)
from lmstack.evals.judging.judgements import TOO_LONG, rules_from_json
from lmstack.evals.judging.report import _others, _table

PAIR = Rules("pair", "Which is better?")
LABEL = Rules("label", "Which fits?", ("refuses", "complies"))
RUBRIC = Rules("rubric")


def item(number: int, **given: Any) -> Item:
    return Item((Message("user", f"q{number}"),), given.pop("answers", ("a", "bb")), **given)


def said(each: Item, verdict: Verdict | None = None, **given: Any) -> Judgement:
    return Judgement(each.key, given.pop("judge", "j"), verdict=verdict, **given)


def test_what_cannot_be_read_is_counted_and_left_out() -> None:
    items = [item(n, label="first") for n in range(4)]
    judgements = [
        said(items[0], Verdict(1.0, 1.0)),
        said(items[1], Verdict(1.0, None), problem="unread"),
        said(items[2], problem=TOO_LONG),
        said(items[3], Verdict(1.0, -1.0)),
    ]
    report = judge_report(items, judgements, "j", PAIR)
    assert (report.items, report.unread, report.too_long) == (4, 1, 1)
    assert report.agreement is not None
    assert (report.agreement.items, report.agreement.accuracy.value) == (2, 0.5)
    assert report.scores["tie"].value == 0.5
    assert report.flips is not None
    assert report.flips.value == 0.5


def test_verdicts_agree_by_kappa() -> None:
    labels = ["first", "first", "second", "tie", "first", "second"]
    named = ["first", "tie", "second", "tie", "second", "second"]
    ways = {"first": Verdict(1.0, 1.0), "second": Verdict(-1.0, -1.0), "tie": Verdict(1.0, -1.0)}
    items = [item(n, label=label) for n, label in enumerate(labels)]
    judged = [said(each, ways[name]) for each, name in zip(items, named, strict=True)]
    agreement = judge_report(items, judged, "j", PAIR).agreement
    assert agreement is not None
    assert agreement.kappa.value == pytest.approx(cohen_kappa_score(labels, named))
    assert (agreement.accuracy.value, agreement.largest) == (pytest.approx(4 / 6), 0.5)


def test_a_report_is_json_with_all_that_it_holds() -> None:
    items = [item(n, label="first", cluster=f"c{n}") for n in range(6)]
    judged = [said(each, Verdict(1.0, 1.0)) for each in items]
    judged += [said(each, Verdict(1.0, 1.0), repeat=n) for each in items for n in (1, 2)]
    report = judge_report(items, judged, "j", PAIR)
    written = json.loads(json.dumps(report.to_json(), allow_nan=False))
    counts = ("judge", "kind", "items", "unread", "too_long", "retried", "undecided")
    assert {name: written[name] for name in counts} == {
        **{"judge": "j", "kind": "pair", "items": 6, "unread": 0, "too_long": 0, "retried": 0},
        "undecided": 0,
    }
    assert (report.agreement, report.repeats, report.flips) != (None,) * 3
    assert report.agreement is not None
    assert report.repeats is not None
    assert written["agreement"] == {
        "kappa": report.agreement.kappa.to_json(),
        "accuracy": report.agreement.accuracy.to_json(),
        **{"largest_class": 1.0, "items": 6},
    }
    assert written["repeats"] == {"spread": report.repeats.spread.to_json(), "items": 6}
    for name in ("flips", "first_place"):
        assert written[name] == getattr(report, name).to_json()
    assert written["scores"] == {name: each.to_json() for name, each in report.scores.items()}
    assert written["biases"] == [bias.to_json() for bias in report.biases]
    assert written["unmeasured"] == report.unmeasured != {}
    empty = judge_report(items, [], "j", PAIR).to_json()
    assert [empty[name] for name in ("flips", "first_place", "repeats", "agreement")] == [None] * 4


def test_labels_that_are_not_the_rules_and_undecided_ones_are_not_compared() -> None:
    items = [item(0, label="best"), item(1, label="first")]
    report = judge_report(items, [said(each, Verdict(1.0, 1.0)) for each in items], "j", PAIR)
    reason = report.unmeasured["agreement"]
    assert reason.startswith("the label 'best' is none of first, ")
    items = [item(0, answers=("a",), label="refuses")]
    judged = [said(items[0], Verdict(math.inf, -math.inf))]
    report = judge_report(items, judged, "j", LABEL)
    assert report.unmeasured["agreement"] == "the judge decided nothing"


def test_ratings_agree_by_weighted_kappa() -> None:
    labels, scores = [1, 2, 3, 4, 5, 5], [1, 3, 3, 4, 5, 4]
    items = [item(n, answers=("a",), label=float(label)) for n, label in enumerate(labels)]
    names = [c.name for c in RUBRIC.criteria]
    judged = [
        said(each, rating=RubricRating(dict.fromkeys(names, s), dict.fromkeys(names, "r")))
        for each, s in zip(items, scores, strict=True)
    ]
    report = judge_report(items, judged, "j", RUBRIC)
    assert report.agreement is not None
    kappa = cohen_kappa_score(labels, scores, weights="quadratic")
    assert report.agreement.kappa.value == pytest.approx(kappa)
    assert report.agreement.largest == pytest.approx(1 / 3)
    assert report.scores["clarity"].value == pytest.approx(np.mean(scores))


def test_labels_on_another_scale_are_not_compared() -> None:
    items = [item(n, answers=("a",), label=0.5) for n in range(2)]
    names = [c.name for c in RUBRIC.criteria]
    judged = [said(i, rating=RubricRating(dict.fromkeys(names, 3), {})) for i in items]
    report = judge_report(items, judged, "j", RUBRIC)
    assert report.agreement is None
    assert "1 to 5" in report.unmeasured["agreement"]


def test_of_two_labels_both_orders_together_decide_and_nothing_is_guessed() -> None:
    """Three log-odds for a letter flip every verdict, and the sum of both orders does not."""
    items = [item(n, answers=("a",), label="refuses") for n in range(3)]
    judged = [
        said(items[0], Verdict(3.5, -2.5)),
        said(items[1], Verdict(2.5, -3.5)),
        said(items[2], Verdict(math.inf, -math.inf)),
    ]
    report = judge_report(items, judged, "j", LABEL)
    assert (report.undecided, report.unread) == (1, 0)
    assert report.agreement is not None
    assert (report.agreement.items, report.agreement.accuracy.value) == (2, 0.5)
    assert report.flips is not None
    assert report.flips.value == 1
    assert report.scores["refuses"].value == pytest.approx(1 / 3)


def test_repeats_that_differ_are_told_by_how_often_two_do() -> None:
    items = [item(n) for n in range(3)]
    wins = [(1, 1, 1, 1), (1, 1, -1, -1), (-1, -1, -1, -1)]
    judged = [said(each, Verdict(1.0, 1.0)) for each in items]
    for each, ways in zip(items, wins, strict=True):
        odds = [math.inf if way > 0 else -math.inf for way in ways]
        judged += [said(each, Verdict(o, o), repeat=n + 1) for n, o in enumerate(odds)]
    report = judge_report(items, judged, "j", PAIR)
    assert report.repeats is not None
    assert report.repeats.items == 3
    assert report.repeats.spread.value == pytest.approx((0 + 4 / 6 + 0) / 3)
    assert judge_report(items, judged[:3], "j", PAIR).repeats is None


def test_repeats_of_ratings_have_the_spread_within_items() -> None:
    items = [item(n, answers=("a",)) for n in range(2)]
    names = [c.name for c in RUBRIC.criteria]
    judged = []
    for each, scores in zip(items, [(1, 3), (5, 5)], strict=True):
        for n, score in enumerate(scores):
            rating = RubricRating(dict.fromkeys(names, score), {})
            judged.append(said(each, rating=rating, repeat=n + 1))
    report = judge_report(items, judged, "j", RUBRIC)
    assert report.repeats is not None
    assert report.repeats.spread.value == pytest.approx(1.0)  # the mean of variances 2 and 0


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
def test_rules_survive_json(rules: Rules) -> None:
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


def test_a_judge_is_held_against_the_others_alone() -> None:
    each = item(0)
    judgements = [
        said(each, Verdict(1.0, 1.0)),
        said(each, Verdict(-1.0, -1.0), judge="other"),
        said(each, Verdict(1.0, 1.0), judge="other", repeat=1),
    ]
    assert _others(judgements, "j", PAIR) == {each.key: -1.0}
    assert _others(judgements, "other", PAIR) == {each.key: 1.0}
    table = _table([(each, judgements[0])], judgements, "j", PAIR, ())
    assert table.others.tolist() == [-1.0]


def test_half_a_point_is_rounded_up() -> None:
    """As people round, and not to the even number."""
    items = [item(n, answers=("a",), label=label) for n, label in enumerate((3.0, 5.0, 4.0))]
    rules = Rules("rubric", criteria=RUBRIC.criteria[:2])
    names = [c.name for c in rules.criteria]
    judged = [
        said(each, rating=RubricRating(dict(zip(names, marks, strict=True)), {}))
        for each, marks in zip(items, [(2, 3), (4, 5), (3, 4)], strict=True)
    ]
    report = judge_report(items, judged, "j", rules)
    assert report.agreement is not None
    assert report.agreement.accuracy.value == 1
