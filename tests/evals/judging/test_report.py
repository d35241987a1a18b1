"""The report on judgements: counts, agreement, repeats."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from tests.oracles import metrics

from lmstack.core import InputError, Message
from lmstack.evals.judging import (
    Item,
    Judgement,
    JudgeRules,
    RubricRating,
    Verdict,
    judge_report,
)
from lmstack.evals.judging.judgements import TOO_LONG
from lmstack.evals.judging.report import _others, _own, _table, label_of

PAIR = JudgeRules("pair", "Which is better?")
LABEL = JudgeRules("label", "Which fits?", ("refuses", "complies"))
RUBRIC = JudgeRules("rubric")


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
    assert agreement.kappa.value == pytest.approx(metrics.cohen_kappa_score(labels, named))
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
    kappa = metrics.cohen_kappa_score(labels, scores, weights="quadratic")
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
    rules = JudgeRules("rubric", criteria=RUBRIC.criteria[:2])
    names = [c.name for c in rules.criteria]
    judged = [
        said(each, rating=RubricRating(dict(zip(names, marks, strict=True)), {}))
        for each, marks in zip(items, [(2, 3), (4, 5), (3, 4)], strict=True)
    ]
    report = judge_report(items, judged, "j", rules)
    assert report.agreement is not None
    assert report.agreement.accuracy.value == 1


def rating(*scores: int, attempts: int = 1) -> RubricRating:
    return RubricRating(
        dict(zip((c.name for c in RUBRIC.criteria), scores, strict=False)), {}, attempts
    )


def test_what_was_asked_again_is_counted_and_each_criterion_has_its_mean() -> None:
    items = [item(n, answers=("a",)) for n in range(3)]
    marks = [(5, 1, 2, 2), (3, 1, 4, 2), (4, 4, 3, 5)]
    judged = [
        said(each, rating=rating(*scores, attempts=n + 1))
        for n, (each, scores) in enumerate(zip(items, marks, strict=True))
    ]
    report = judge_report(items, judged, "j", RUBRIC)
    assert report.retried == 2
    names = ("overall", *(c.name for c in RUBRIC.criteria))
    assert list(report.scores) == list(names)
    values = [report.scores[name].value for name in names]
    assert values == pytest.approx([3.0, 4.0, 2.0, 3.0, 3.0])
    table = _table(list(zip(items, judged, strict=True)), judged, "j", RUBRIC, ())
    assert table.value.tolist() == [2.5, 2.5, 4.0]
    assert (table.place, table.unit, table.toward, table.is_pair) == (None, "points", "", False)
    assert judge_report(items, [], "j", RUBRIC).scores == {}


def test_pairs_count_as_often_as_the_place_and_the_cluster_say() -> None:
    """Two prompts of one cluster; a tie counts as a half of a place."""
    items = [item(n, cluster=c, sources=("m", "o")) for n, c in enumerate("aab")]
    ways = [Verdict(1.0, -1.0), Verdict(1.0, -2.0), Verdict(-1.0, 3.0, (False, True))]
    judged = [said(each, way) for each, way in zip(items, ways, strict=True)]
    report = judge_report(items, judged, "j", PAIR)
    assert report.first_place is not None
    assert report.first_place.value == pytest.approx((1 + 1 - 0.5) / 3)
    assert report.scores["first"].value == report.scores["second"].value == 0
    assert (report.undecided, report.flips is not None and report.flips.value) == (0, 2 / 3)
    decided = list(zip(items, judged, strict=True))
    table = _table(decided, judged, "j", PAIR, ("m",))
    assert table.place is not None
    assert table.place.tolist() == [1.0, 1.5, -2.0]
    assert table.value.tolist() == [0.0, -0.5, 1.0]
    assert (table.own.tolist(), list(table.clusters)) == ([1.0] * 3, list("aab"))
    assert table.doublings.tolist() == [-1.0] * 3
    assert (table.unit, table.toward, table.is_pair) == ("log-odds", "", True)


def test_verdicts_without_odds_are_worth_what_they_name() -> None:
    items = [item(n, answers=("a",), label=label) for n, label in enumerate(LABEL.labels)]
    ways = [Verdict(math.inf, -math.inf), Verdict(1.0, 1.0)]
    judged = [said(each, way) for each, way in zip(items, ways, strict=True)]
    table = _table(list(zip(items, judged, strict=True)), judged, "j", LABEL, ())
    assert table.place is not None
    assert (table.place.tolist(), table.value.tolist()) == ([1.0, 0.0], [0.0, 1.0])
    assert table.label.tolist() == [1.0, -1.0]
    assert (table.unit, table.toward) == ("of preference", "refuses")
    unread = [(items[0], said(items[0], Verdict(None, 1.0)))]
    table = _table(unread, [], "j", LABEL, ())
    assert table.place is not None
    assert np.isnan([table.place[0], table.value[0]]).all()


@pytest.mark.parametrize(
    ("sources", "own", "expected"),
    [
        (("m", "o"), ("m",), 1.0),
        (("o", "m"), ("m",), -1.0),
        (("o", "n"), ("m",), 0.0),
        (("m",), ("m",), 1.0),
        (("o",), ("m",), 0.0),
        (("m", ""), ("m",), math.nan),
        ((), ("m",), math.nan),
        (("m", "o"), (), math.nan),
    ],
)
def test_whose_answer_it_is(sources: Any, own: Any, expected: float) -> None:
    each = item(0, answers=("a", "b")[: len(sources) or 1], sources=sources)
    assert _own(each, own) == pytest.approx(expected, nan_ok=True)


def test_what_people_said_has_the_signs_of_what_a_judge_says() -> None:
    found = {
        (rules.kind, label): label_of(item(0, label=label), rules)
        for rules in (PAIR, LABEL, RUBRIC)
        for label in ("first", "tie", "refuses", "complies", 4.0, None)
    }
    known = {key: value for key, value in found.items() if not math.isnan(value)}
    assert known == {
        ("pair", "first"): 1.0,
        ("pair", "tie"): 0.0,
        ("label", "refuses"): 1.0,
        ("label", "complies"): -1.0,
        ("rubric", 4.0): 4.0,
    }
    assert label_of(item(0, label="second"), PAIR) == -1.0


def test_other_judges_of_an_item_are_averaged_and_each_item_is_its_own() -> None:
    one, two = items = [item(n, answers=("a",)) for n in range(2)]
    judgements = [
        *(
            said(one, rating=rating(*[n] * 4), judge=name)
            for n, name in zip((1, 5, 2), "jkl", strict=True)
        ),
        said(two, rating=rating(4, 4, 4, 4), judge="k"),
        said(two, judge="l", problem="unread"),
    ]
    assert _others(judgements, "j", RUBRIC) == {one.key: 3.5, two.key: 4.0}
    table = _table([(each, judgements[0]) for each in items], judgements, "k", RUBRIC, ())
    assert table.others.tolist()[0] == 1.5
    assert math.isnan(table.others.tolist()[1])


def test_repeats_are_the_judges_own_that_were_read_and_of_items_with_two() -> None:
    """Of pairs: those that could be read; the first judgement and other judges do not count."""
    items = [item(n) for n in range(3)]
    same, other = Verdict(1.0, 1.0), Verdict(-1.0, -1.0)
    judged = [
        said(items[0], other),
        *(said(items[0], same, repeat=n) for n in (1, 2)),
        said(items[0], other, repeat=3, problem="unread"),
        said(items[0], other, repeat=1, judge="k"),
        said(items[1], same, repeat=1),
        said(items[2], same, repeat=1),
        said(items[2], Verdict(None, 1.0), repeat=2),
    ]
    found = judge_report(items, judged, "j", PAIR).repeats
    assert found is not None
    assert (found.items, found.spread.value) == (1, 0.0)
    assert judge_report(items, judged, "k", PAIR).unmeasured["repeats"].startswith("no item")
    assert judge_report(items, judged[:3], "j", PAIR).unmeasured.get("repeats") is None


def test_an_item_without_a_label_is_not_compared_and_the_reason_is_told() -> None:
    items = [item(0, label="second"), item(1)]
    judged = [said(each, Verdict(1.0, 1.0)) for each in items]
    report = judge_report(items, judged, "j", PAIR)
    assert report.agreement is not None
    assert (report.agreement.items, report.agreement.accuracy.value) == (1, 0.0)
    assert "agreement" not in report.unmeasured
    report = judge_report(items[1:], judged, "j", PAIR)
    assert (report.items, report.agreement) == (1, None)
    assert report.unmeasured["agreement"] == "no item has a label"


def test_a_rating_without_scores_is_no_label() -> None:
    each = item(0, answers=("a",), label=1.0)
    with pytest.raises(InputError, match="0 is none of the labels"):
        judge_report(
            [each], [said(each, rating=RubricRating())], "j", JudgeRules("rubric", criteria=())
        )
