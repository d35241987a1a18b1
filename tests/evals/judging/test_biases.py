"""Biases that were planted are named; of judges without one, at most one report in twenty errs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats
from tests.evals.judging.judges import Judge, shown_answers

from lmstack.core import Message
from lmstack.evals.judging import (
    Asker,
    Item,
    JudgeBias,
    JudgedTable,
    JudgeReport,
    JudgeRules,
    find_biases,
    judge_report,
)
from lmstack.evals.statistics import Estimate, holm

PAIRS = JudgeRules("pair", "Which is better?", ties=False)


def pairs(count: int, seed: int = 0) -> tuple[list[Item], dict[str, float]]:
    """Answers of random quality and length, which have nothing to do with each other; the label is
    what people said, who see the quality with noise. Both models write as well as the other."""
    rng = np.random.default_rng(seed)
    quality: dict[str, float] = {}
    items = []
    for number in range(count):
        answers = []
        for side in "ab":
            text = f"{side}{number} ".ljust(int(rng.integers(20, 800)), "x")
            quality[text] = float(rng.normal())
            answers.append(text)
        better = quality[answers[0]] - quality[answers[1]] + rng.normal(0, 0.5) > 0
        sources = ("judge", "other") if rng.random() < 0.5 else ("other", "judge")
        prompt = (Message("user", f"question {number}"),)
        label = "first" if better else "second"
        items.append(Item(prompt, tuple(answers), label=label, sources=sources))
    return items, quality


def judged(
    items: list[Item], worth: Callable[[str], float], place: float, *knows: str
) -> JudgeReport:
    """The report on a judge that prefers by ``worth``, and the place shown first by ``place``."""

    def logits(prompt: str) -> dict[str, float]:
        shown = shown_answers(prompt)
        return {"A": 30 + worth(shown["answer A"]) + place, "B": 30 + worth(shown["answer B"])}

    asker = Asker(Judge(logits, *knows), "judge", PAIRS)

    async def ask() -> list[Any]:
        return [await asker.ask(item) for item in items]

    return judge_report(items, asyncio.run(ask()), "judge", PAIRS, own=("judge",))


def names(report: JudgeReport) -> dict[str, str]:
    return {bias.name: bias.sentence for bias in report.named}


KNOWS = [("regex", "logprobs"), ()]


@pytest.mark.parametrize("knows", KNOWS)
def test_a_judge_without_a_bias_has_none(knows: tuple[str, ...]) -> None:
    items, quality = pairs(80)
    report = judged(items, quality.__getitem__, 0.0, *knows)
    assert names(report) == {}
    assert {bias.name for bias in report.biases} == {"position", "length", "self-preference"}
    assert report.flips is not None
    assert report.flips.value == 0


@pytest.mark.parametrize("knows", KNOWS)
@pytest.mark.parametrize(("place", "side"), [(1.0, "first"), (-1.0, "second")])
def test_a_liking_for_a_place_is_exposed(knows: tuple[str, ...], place: float, side: str) -> None:
    items, quality = pairs(80)
    report = judged(items, quality.__getitem__, place, *knows)
    assert names(report) == {"position": f"prefers the place shown {side}"}
    assert report.flips is not None
    flips = sum(abs(quality[i.answers[0]] - quality[i.answers[1]]) < 1 for i in items) / 80
    assert report.flips.value == pytest.approx(flips)
    if knows:
        (found,) = report.named
        assert (found.estimate.value, found.unit) == (pytest.approx(place), "log-odds")


@pytest.mark.parametrize("knows", KNOWS)
@pytest.mark.parametrize(("slope", "side"), [(0.8, "longer"), (-0.8, "shorter")])
def test_a_liking_for_length_is_exposed(knows: tuple[str, ...], slope: float, side: str) -> None:
    items, quality = pairs(120)

    def worth(text: str) -> float:
        return quality[text] + slope * float(np.log2(len(text.strip())))

    report = judged(items, worth, 0.0, *knows)
    assert names(report) == {"length": f"rates {side} answers higher"}
    if knows:
        (found,) = report.named
        assert found.estimate.low < slope < found.estimate.high
        assert found.held == "labels"


@pytest.mark.parametrize("knows", KNOWS)
def test_a_liking_for_its_own_answers_is_exposed(knows: tuple[str, ...]) -> None:
    items, quality = pairs(120)
    own = {
        a for item in items for a, s in zip(item.answers, item.sources, strict=True) if s == "judge"
    }
    report = judged(items, lambda text: quality[text] + (text in own), 0.0, *knows)
    assert names(report)["self-preference"] == "rates its own model's answers higher"


def test_longer_answers_that_are_better_are_no_bias_where_labels_say_so() -> None:
    rng = np.random.default_rng(4)
    label = rng.choice([-1.0, 1.0], 200)
    length = label + rng.normal(size=200)
    value = 2 * label + rng.normal(size=200)
    assert named(table(value, doublings=length, label=label)) == set()
    (found,) = (b for b in find_biases(table(value, doublings=length))[0] if b.is_named)
    assert found.name == "length"
    assert "no labels" in found.sentence
    of_labels = table(value, doublings=length, toward="yes")
    (found,) = (bias for bias in find_biases(of_labels)[0] if bias.is_named)
    assert found.sentence.startswith("says yes more often of longer answers")


def table(value: Any, **given: Any) -> JudgedTable:
    count = len(value)
    nothing = np.full(count, np.nan)
    columns = dict.fromkeys(("doublings", "own", "label", "others"), nothing)
    made = JudgedTable(
        value=np.asarray(value, np.float64),
        **columns,
        clusters=[str(n) for n in range(count)],
        is_pair=True,
        unit="log-odds",
    )
    return replace(made, **{"doublings": np.zeros(count), **given})


def named(given: JudgedTable) -> set[str]:
    return {bias.name for bias in find_biases(given)[0] if bias.is_named}


def unbiased(rng: np.random.Generator, count: int, *, rated: bool, verdicts: bool) -> JudgedTable:
    """A noisy judge that sees nothing but what people see, with noise of its own."""
    quality = rng.normal(size=count)
    label = np.sign(quality + rng.normal(0, 0.5, count))
    value = label + rng.normal(size=count)
    place: Any = rng.standard_t(3, count)
    if verdicts:  # orders that differ, for no reason but noise
        orders = np.sign(label + rng.normal(0, 1.5, (2, count)))
        value, place = orders.mean(0), (orders[0] - orders[1]) / 2
    own = rng.choice([-1.0, 1.0], count)
    return replace(
        table(value, doublings=rng.normal(size=count), own=own, label=label),
        place=None if rated else place,
        is_pair=not rated,
    )


@pytest.mark.parametrize("count", [12, 60])
@pytest.mark.parametrize("verdicts", [False, True])
def test_false_alarms_are_no_more_than_one_report_in_twenty(count: int, verdicts: bool) -> None:
    """Of all biases together: the number of reports that name any is one that a rate of .05 gives
    with a probability above .001."""
    rng, runs = np.random.default_rng(count), 100
    alarms = sum(
        bool(named(unbiased(rng, count, rated=False, verdicts=verdicts))) for _ in range(runs)
    )
    assert stats.binom.sf(alarms - 1, runs, 0.05) > 0.001, alarms


def test_ratings_raise_no_more_false_alarms() -> None:
    rng, runs = np.random.default_rng(9), 100
    judges = (unbiased(rng, 40, rated=True, verdicts=False) for _ in range(runs))
    alarms = sum(bool(named(each)) for each in judges)
    assert stats.binom.sf(alarms - 1, runs, 0.05) > 0.001, alarms


def test_too_few_prompts_are_not_looked_at() -> None:
    found, missing = find_biases(replace(table(np.ones(40)), clusters=["a", "b"] * 20))
    assert found == []
    assert "2 prompts are too few" in missing["length"]


def test_what_is_not_known_is_not_measured() -> None:
    _, missing = find_biases(table(np.ones(30), doublings=np.ones(30)))
    assert "own model" in missing["self-preference"]
    own = np.repeat([1.0, -1.0], 15)
    _, missing = find_biases(table(np.ones(30), own=own))
    assert "labels by people, or other judges" in missing["self-preference"]


def test_other_judges_hold_the_quality_where_no_one_labelled() -> None:
    rng = np.random.default_rng(5)
    own, others = rng.choice([-1.0, 1.0], 100), rng.normal(size=100)
    fair = table(others + 0.1 * rng.normal(size=100), own=own, others=others)
    assert named(fair) == set()
    swayed = replace(fair, value=fair.value + own)
    (found,) = (bias for bias in find_biases(swayed)[0] if bias.is_named)
    assert (found.name, found.held) == ("self-preference", "other judges")
    assert isinstance(found, JudgeBias)


def test_a_judge_whose_own_answers_always_come_first_is_found_out() -> None:
    """Pairs have no intercept, which would take all that does not vary."""
    rng = np.random.default_rng(6)
    label = rng.choice([-1.0, 1.0], 60)
    value = label + 1 + 0.3 * rng.normal(size=60)
    found, missing = find_biases(table(value, own=np.ones(60), label=label))
    assert "self-preference" not in missing
    assert [bias.name for bias in found if bias.is_named] == ["self-preference"]


@pytest.mark.parametrize(
    ("name", "value", "toward", "held", "sentence"),
    [
        ("position", 1.0, "", "", "prefers the place shown first"),
        ("position", -1.0, "yes", "", "prefers the label listed second"),
        ("self-preference", 1.0, "", "labels", "rates its own model's answers higher"),
        ("self-preference", -1.0, "", "labels", "rates its own model's answers lower"),
        ("self-preference", 1.0, "yes", "", "says yes more often of its own model's answers"),
        ("self-preference", -1.0, "yes", "", "says yes less often of its own model's answers"),
        ("length", 1.0, "", "labels", "rates longer answers higher"),
        ("length", -1.0, "yes", "labels", "says yes more often of shorter answers"),
    ],
)
def test_what_a_bias_means(name: str, value: float, toward: str, held: str, sentence: str) -> None:
    apart = Estimate(value, value - 0.5, value + 0.5, 0.01)
    found = JudgeBias(name, apart, 0.05, "points", 30, held, toward)
    assert (found.is_named, found.sentence) == (True, sentence)
    assert found.to_json() == {
        **{"name": name, "named": True, **apart.to_json(), "p_adjusted": 0.05},
        **{"unit": "points", "samples": 30, "quality_held_by": held, "sentence": sentence},
    }
    for other in (replace(found, p=0.051), replace(found, estimate=replace(apart, low=-2, high=2))):
        assert (other.is_named, other.sentence) == (False, "")


def test_each_bias_has_its_rows_unit_and_adjusted_p() -> None:
    """What is not known is left out where it is needed alone: 30 values, a place of 20 of them,
    labels of 15, own answers of 25, of which 12 have labels."""
    rng = np.random.default_rng(7)
    nan = np.full(30, np.nan)
    place, label, own = nan.copy(), nan.copy(), nan.copy()
    place[:20], label[:15] = rng.normal(size=20), rng.choice([-1.0, 1.0], 15)
    own[3:28] = rng.choice([-1.0, 0.0, 1.0], 25)
    value = np.append(rng.normal(size=30), [np.nan] * 2)
    given = {"place": place, "label": label, "own": own, "doublings": rng.normal(size=30)}
    padded = {name: np.append(each, [1.0, 2.0]) for name, each in given.items()}
    whole = table(value, **padded, others=np.append(nan, [1.0, 2.0]))
    found, missing = find_biases(whole)
    assert missing == {}
    by_name = {bias.name: bias for bias in found}
    assert list(by_name) == ["position", "length", "self-preference"]
    assert {name: (b.samples, b.unit, b.held) for name, b in by_name.items()} == {
        "position": (20, "log-odds", ""),
        "length": (15, "log-odds a doubling", "labels"),
        "self-preference": (12, "log-odds", "labels"),
    }
    assert by_name["position"].estimate.value == pytest.approx(place[:20].mean())
    ps = [bias.estimate.p or 0.0 for bias in found]
    assert [bias.p for bias in found] == pytest.approx(list(holm(ps)))
    voted = replace(whole, unit="of preference")
    assert find_biases(voted)[0][0].unit == "of verdicts"
    assert find_biases(voted)[0][1].unit == "of preference a doubling"


@pytest.mark.parametrize(("count", "measured"), [(9, False), (10, True)])
def test_ten_prompts_are_enough_and_nine_are_not(count: int, measured: bool) -> None:
    """Of labels too: below ten the quality is not held by them, and other judges may."""
    rng = np.random.default_rng(8)
    label = np.full(40, np.nan)
    label[:count] = rng.normal(size=count)
    given = {"doublings": rng.normal(size=40), "own": rng.choice([-1.0, 1.0], 40)}
    found, missing = find_biases(table(rng.normal(size=40), label=label, **given))
    held = {bias.name: bias.held for bias in found}
    assert held.get("length") == ("labels" if measured else "")
    assert ("self-preference" in held) == measured
    assert ("self-preference" in missing) != measured
    few = table(rng.normal(size=count), place=np.ones(count))
    assert ("position" in {b.name for b in find_biases(few)[0]}) == measured
    assert "place" in find_biases(replace(few, place=None))[1]["position"]


def test_ratings_have_an_intercept_and_pairs_have_none() -> None:
    rng = np.random.default_rng(9)
    length, label = rng.normal(5, 1, 40), rng.normal(size=40)
    value = 4 + 0.5 * length + label + 0.1 * rng.normal(size=40)
    rated = replace(table(value, doublings=length, label=label), is_pair=False)
    for each, columns in (
        (rated, [length, label, np.ones(40)]),
        (replace(rated, is_pair=True), [length, label]),
    ):
        expected = np.linalg.lstsq(np.column_stack(columns), value, rcond=None)[0][0]
        (found,) = find_biases(each)[0]
        assert found.estimate.value == pytest.approx(expected)
    own = np.full(40, np.nan)
    own[:20] = 0.0
    _, missing = find_biases(replace(rated, own=own))
    assert missing["self-preference"].startswith("no answer is known")
