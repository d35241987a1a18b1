"""Verdicts and their reasons; nothing that is missing or does not match is ever promoted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from tests.errors import about
from tests.evals.gate.samples import SECONDS, TOXICITY, comparison, pairs, scores

from lmstack.core import InputError
from lmstack.evals.gate import GateComparison, GateConfig, GateDecision, GateRule, decide
from lmstack.evals.gate.decision import _p
from lmstack.evals.statistics import holm

NON_INFERIOR = GateRule("mmlu", margin=0.05)
SUPERIOR = GateRule("mmlu", kind="superior")


def ask(
    *rules: GateRule, on: GateComparison | Sequence[GateComparison], **more: Any
) -> GateDecision:
    return decide(GateConfig(rules, **more), [on] if isinstance(on, GateComparison) else on)


def test_a_model_that_is_as_good_is_promoted() -> None:
    found = ask(NON_INFERIOR, on=pairs(20, 20, 600))
    assert found.verdict == "PROMOTE"
    assert found.passed
    assert "every rule is shown to hold" in found.reasons[0]


def test_a_model_that_is_worse_is_rejected() -> None:
    found = ask(NON_INFERIOR, on=pairs(10, 90, 600))
    assert found.verdict == "REJECT"
    assert "shown to be broken: mmlu accuracy" in found.reasons[0]
    assert "The gain is -0.133" in found.reasons[1]


def test_of_two_rules_on_one_figure_the_verdict_says_which_it_means() -> None:
    """And not twice the same name."""
    rules = NON_INFERIOR, GateRule("mmlu", kind="at_least", threshold=0.95)
    broken = ask(*rules, on=pairs(10, 90, 600)).reasons[0]
    assert broken == (
        "REJECT: shown to be broken: mmlu accuracy not worse than the baseline by 0.050 or more,"
        " mmlu accuracy above 0.950."
    )
    held = ask(*rules, on=pairs(3, 3, 60)).reasons[0]
    assert "by 0.050 or more is undecided" in held
    assert "above 0.950 is undecided" in held
    assert "mmlu accuracy." in ask(NON_INFERIOR, on=pairs(10, 90, 600)).reasons[0]


def test_too_few_samples_are_held_with_how_many_more() -> None:
    found = ask(NON_INFERIOR, on=pairs(3, 3, 60))
    assert found.verdict == "HOLD"
    assert not found.passed
    assert found.more is not None
    assert 100 < found.more < 500
    assert f"about {found.more:,} more samples would show it" in found.reasons[0]


def test_the_samples_asked_for_are_enough() -> None:
    held = ask(NON_INFERIOR, on=pairs(3, 3, 60))
    factor = (60 + (held.more or 0)) / 60
    both = round(3 * factor)
    assert ask(NON_INFERIOR, on=pairs(both, both, round(60 * factor))).verdict == "PROMOTE"


def test_a_gain_below_nought_asks_for_what_an_equal_model_needs() -> None:
    found = ask(NON_INFERIOR, on=pairs(2, 6, 60))
    assert found.verdict == "HOLD"
    assert "if the candidate equals the baseline" in found.reasons[0]
    lost = ask(SUPERIOR, on=pairs(2, 6, 60))
    assert lost.more is None
    assert "no number of samples" in lost.reasons[0]


def test_the_same_answers_are_not_inferior_and_not_superior() -> None:
    same = pairs(0, 0, 200)
    assert ask(NON_INFERIOR, on=same).verdict == "PROMOTE"
    assert ask(SUPERIOR, on=same).verdict == "HOLD"


def test_superiority_by_a_margin_is_more_than_superiority() -> None:
    better = pairs(60, 20, 600)
    assert ask(SUPERIOR, on=better).verdict == "PROMOTE"
    assert ask(GateRule("mmlu", kind="superior", margin=0.06), on=better).verdict == "HOLD"
    assert ask(GateRule("mmlu", kind="superior", margin=0.15), on=better).verdict == "REJECT"


def test_a_threshold_needs_no_baseline() -> None:
    rule = GateRule("mmlu", kind="at_least", threshold=0.9)
    alone = [
        GateComparison(scores([1.0] * hits + [0.0] * (200 - hits))) for hits in (196, 182, 150)
    ]
    assert [ask(rule, on=each).verdict for each in alone] == ["PROMOTE", "HOLD", "REJECT"]
    assert "It scores 0.980" in ask(rule, on=alone[0]).reasons[1]


def test_a_threshold_of_what_should_be_low_is_a_ceiling() -> None:
    rule = GateRule("mmlu", kind="at_least", threshold=0.1)
    toxic = [
        GateComparison(scores([1.0] * hits + [0.0] * (200 - hits), metric=TOXICITY))
        for hits in (4, 50)
    ]
    assert [ask(rule, on=each).verdict for each in toxic] == ["PROMOTE", "REJECT"]
    said = ask(rule, on=toxic[0])
    assert "below 0.100" in said.reasons[1]
    assert said.results[0].value == 0.02
    low, high = said.results[0].interval
    assert 0 < low < 0.02 < high < 0.1


def test_one_broken_rule_is_enough() -> None:
    good, bad = pairs(20, 20, 600), pairs(10, 90, 600, task="gsm8k")
    rules = NON_INFERIOR, GateRule("gsm8k", margin=0.05)
    assert ask(*rules, on=[good, bad]).verdict == "REJECT"
    assert [r.outcome for r in ask(*rules, on=[good, bad]).results] == ["passed", "broken"]


def test_one_undecided_rule_is_enough() -> None:
    few = pairs(3, 3, 60, task="gsm8k")
    rules = NON_INFERIOR, GateRule("gsm8k", margin=0.05)
    assert ask(*rules, on=[pairs(20, 20, 600), few]).verdict == "HOLD"


def test_claims_of_superiority_are_adjusted_and_non_inferiority_is_not() -> None:
    tasks = [pairs(20, 8, 300, task=name) for name in ("a", "b", "c")]
    rules = (
        GateRule("a", kind="superior"),
        GateRule("b", kind="superior"),
        GateRule("c", margin=0.02),
    )
    first, second, third = ask(*rules, on=tasks).results
    assert [first.p_adjusted, second.p_adjusted] == pytest.approx(holm([first.p, second.p]))
    assert first.p_adjusted > first.p
    assert third.p_adjusted == third.p


def test_harm_is_adjusted_over_all_rules() -> None:
    worse = pairs(3, 24, 300, task="a")
    alone = ask(GateRule("a", margin=0.03), on=worse)
    assert alone.verdict == "REJECT"
    many = [worse, *(pairs(0, 0, 300, task=f"t{i}") for i in range(12))]
    rules = (GateRule("a", margin=0.03), *(GateRule(f"t{i}", margin=0.03) for i in range(12)))
    harm = ask(*rules, on=many).results[0].p_harm
    assert harm == pytest.approx(13 * alone.results[0].p_harm)


def test_looks_are_paid_for() -> None:
    found = pairs(18, 24, 400)
    assert ask(NON_INFERIOR, on=found).verdict == "PROMOTE"
    assert ask(NON_INFERIOR, on=found, looks=10).verdict == "HOLD"
    assert "divided over 10 looks" in ask(NON_INFERIOR, on=found, looks=10).reasons[-1]
    anytime = ask(NON_INFERIOR, on=pairs(80, 80, 3000), looks="any")
    assert anytime.verdict == "PROMOTE"
    assert "asked again at any time" in anytime.reasons[-1]


def test_unbounded_scores_are_compared_too() -> None:
    rng = np.random.default_rng(0)
    old = rng.gamma(4, size=80)
    rule = GateRule("mmlu", margin=0.5)
    faster = comparison(old - 0.2 + rng.normal(0, 0.3, 80), old, metric=SECONDS)
    slower = comparison(old + 1.0 + rng.normal(0, 0.3, 80), old, metric=SECONDS)
    assert ask(rule, on=faster).verdict == "PROMOTE"
    assert ask(rule, on=slower).verdict == "REJECT"


@pytest.mark.parametrize(
    ("rules", "given", "said"),
    [
        ([GateRule("mmli", margin=0.1)], [pairs(1, 1, 9)], "did you mean 'mmlu'"),
        ([GateRule("gsm8k", margin=0.1)], [], "nothing was measured of the task gsm8k"),
        ([GateRule("mmlu", metric="accuraci", margin=0.1)], [pairs(1, 1, 9)], "mean 'accuracy'"),
        ([NON_INFERIOR], [pairs(1, 1, 9), pairs(2, 1, 9)], "was passed twice"),
        ([NON_INFERIOR], [GateComparison(scores([1.0, 0.0]))], "has no baseline"),
        ([GateRule("mmlu", margin=1.5)], [pairs(1, 1, 9)], "margin of mmlu is 1.5"),
        (
            [GateRule("mmlu", kind="at_least", threshold=95)],
            [pairs(1, 1, 9)],
            "threshold of mmlu is 95",
        ),
        (
            [NON_INFERIOR, GateRule("b", margin=0.1)],
            [pairs(1, 1, 9), GateComparison(scores([1.0], "other", task="b"))],
            "2 candidates: new, other",
        ),
    ],
)
def test_what_cannot_be_tested_is_an_error_and_no_verdict(
    rules: list[GateRule], given: list[GateComparison], said: str
) -> None:
    with pytest.raises(InputError) as error:
        decide(GateConfig(tuple(rules)), given)
    assert said in str(error.value)


def test_the_minimum_detectable_effect_and_the_power_are_printed() -> None:
    result = ask(NON_INFERIOR, on=pairs(20, 20, 600)).results[0]
    assert (
        f"minimum detectable effect, from the bound, is {result.detectable:.3f}" in result.sentence
    )
    assert f"power for an equal model {result.power_if_equal:.0%}" in result.sentence
    assert "(90% interval" in result.sentence


def test_the_intersection_union_test_is_explained_where_there_are_several_rules() -> None:
    same = pairs(20, 20, 600)
    assert "intersection-union" in " ".join(ask(NON_INFERIOR, SUPERIOR, on=same).reasons)
    assert "intersection-union" not in " ".join(ask(NON_INFERIOR, on=same).reasons)


def test_a_decision_is_json_with_its_reasons() -> None:
    found = ask(NON_INFERIOR, SUPERIOR, on=pairs(30, 20, 600))
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["verdict"] == "HOLD"
    assert written["candidate"] == "new"
    assert written["baseline"] == "old"
    assert written["more"] == found.more
    assert GateConfig.from_mapping(written["config"]) == found.config
    rule = written["rules"][0]
    first = found.results[0]
    plain = ("value", "alpha", "power", "p", "p_adjusted", "p_harm", "outcome", "detectable")
    assert {name: rule[name] for name in plain} == {name: getattr(first, name) for name in plain}
    assert (rule["kind"], rule["bound"]) == (NON_INFERIOR.kind, first.rule.bound)
    assert (rule["samples"], rule["test"]) == (first.test.samples, first.test.name)
    assert rule["low"] > -0.05
    assert rule["p"] <= 0.05
    assert (rule["protocol"], rule["data"]) == ("p1", "sha256:1")


def test_one_cluster_is_held_and_says_why() -> None:
    one = comparison([1.0, 2.0], [1.0, 2.5], metric=SECONDS, clusters=("a", "a"))
    found = ask(NON_INFERIOR, on=one)
    assert found.verdict == "HOLD"
    assert "One cluster of samples tells nothing" in found.reasons[1]
    assert json.dumps(found.to_json(), allow_nan=False)


def test_intervals_leave_out_the_bounds_of_rules_that_pass() -> None:
    for gained, lost in ((20, 20), (10, 28), (3, 40), (0, 0)):
        result = ask(NON_INFERIOR, on=pairs(gained, lost, 300)).results[0]
        assert (result.interval[0] > -0.05) == (result.outcome == "passed")
        assert (result.interval[1] < -0.05) == (result.outcome == "broken")


def test_a_claim_that_passes_alone_is_undecided_beside_another() -> None:
    """Between alpha / 2 and alpha: the adjusted p decides, not the plain one."""
    tasks = [pairs(20, 10, 300, task=name) for name in ("a", "b")]
    rules = [GateRule(name, kind="superior") for name in ("a", "b")]
    assert ask(rules[0], on=tasks[0]).verdict == "PROMOTE"
    both = ask(*rules, on=tasks)
    assert all(r.alpha / 2 < r.p <= r.alpha < r.p_adjusted for r in both.results)
    assert [r.outcome for r in both.results] == ["undecided", "undecided"]
    assert both.verdict == "HOLD"


def test_a_threshold_beside_a_claim_adjusts_neither() -> None:
    threshold = GateRule("b", kind="at_least", threshold=0.9)
    tasks = [
        pairs(20, 10, 300, task="a"),
        GateComparison(scores([1.0] * 280 + [0.0] * 20, task="b")),
    ]
    found = ask(GateRule("a", kind="superior"), threshold, on=tasks)
    assert all(r.alpha / 2 < r.p == r.p_adjusted <= r.alpha for r in found.results)
    assert found.verdict == "PROMOTE"


def test_a_decision_as_json_has_each_part_in_its_place() -> None:
    """A HOLD with one rule that passed, and a PROMOTE without a baseline."""
    rules = NON_INFERIOR, SUPERIOR
    found = ask(*rules, on=pairs(30, 20, 600))
    written = found.to_json()
    assert set(written) == {
        *("verdict", "reasons", "more", "rules", "config", "candidate", "baseline"),
    }
    assert written["reasons"] == list(found.reasons)
    assert len(written["reasons"]) == 5
    assert [rule["outcome"] for rule in written["rules"]] == ["passed", "undecided"]
    assert written["rules"][0]["more"] is None
    assert written["rules"][1]["more"] == found.results[1].more == found.more is not None
    assert written["rules"][1]["power_if_equal"] is None
    assert written["rules"][0]["power_if_equal"] == found.results[0].power_if_equal
    assert written["rules"][0]["high"] == found.results[0].interval[1]
    assert (written["rules"][0]["task"], written["rules"][0]["metric"]) == ("mmlu", "accuracy")
    threshold = GateRule("mmlu", kind="at_least", threshold=0.5)
    alone = ask(threshold, on=GateComparison(scores([1.0] * 200))).to_json()
    assert (alone["verdict"], alone["more"], alone["baseline"]) == ("PROMOTE", None, None)
    one = comparison([1.0, 2.0], [1.0, 2.5], metric=SECONDS, clusters=("a", "a"))
    unknown = ask(NON_INFERIOR, on=one).to_json()["rules"][0]
    assert (unknown["detectable"], unknown["power_if_equal"], unknown["more"]) == (None, 0.0, None)


def test_the_neediest_rule_says_how_many_more() -> None:
    few, fewer = pairs(3, 3, 90, task="a"), pairs(3, 3, 60, task="b")
    rules = [GateRule(name, margin=0.05) for name in ("a", "b")]
    found = ask(*rules, on=[few, fewer])
    needs = [result.more for result in found.results]
    assert None not in needs
    assert found.more == max(n for n in needs if n is not None)
    assert needs[0] != needs[1]
    never = ask(rules[0], GateRule("b", kind="superior"), on=[few, pairs(2, 6, 60, task="b")])
    assert [result.outcome for result in never.results] == ["undecided"] * 2
    assert never.more is None
    good = [pairs(20, 20, 600, task="c"), few]
    assert ask(GateRule("c", margin=0.05), rules[0], on=good).more == needs[0]


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (9e-7, "below 1e-6"),
        (1e-6, "1e-06"),
        (0.00099, "0.001"),
        (0.000123, "0.0001"),
        (0.001, "0.001"),
        (0.25, "0.250"),
    ],
)
def test_how_a_p_is_written(p: float, said: str) -> None:
    assert _p(p) == said


def test_what_each_rule_asks_and_what_was_measured() -> None:
    low = GateComparison(scores([1.0] * 4 + [0.0] * 196, metric=TOXICITY))
    ceiling = ask(GateRule("mmlu", kind="at_least", threshold=0.1), on=low).results[0]
    assert (ceiling.asked, ceiling.bound) == ("below 0.100", -0.1)
    assert ceiling.title == "mmlu toxicity"
    better = pairs(60, 20, 600)
    plain = ask(SUPERIOR, on=better).results[0]
    assert plain.asked == "better than the baseline"
    margin = ask(GateRule("mmlu", kind="superior", margin=0.01), on=better).results[0]
    assert margin.asked == "better than the baseline by more than 0.010"
    assert "shown (p" in margin.sentence
    assert "broken (p" in ask(NON_INFERIOR, on=pairs(10, 90, 600)).results[0].sentence
    held = ask(NON_INFERIOR, on=pairs(3, 3, 60)).results[0]
    assert f"undecided (p {_p(held.p_adjusted)}, alpha 0.05)" in held.sentence
    assert held.power_if_equal == held.test.power(-0.05, 0.05, 0.0)
    assert plain.power_if_equal is None
    many = ask(NON_INFERIOR, on=pairs(30, 30, 1200)).results[0]
    assert "on 1,200 samples" in many.sentence
    assert many.interval == (many.test.lower(0.05), many.test.upper(0.05))
    assert many.detectable == many.test.detectable(-0.05, 0.05, 0.8)


def test_notes_say_how_often_the_gate_may_be_asked() -> None:
    def last(count: int, **more: Any) -> str:
        return ask(NON_INFERIOR, on=pairs(count, count, 20 * count), **more).reasons[-1]

    assert "another chance to pass by luck" in last(3)
    assert "divided over 3 looks" in last(3, looks=3)
    assert "asked again at any time" in last(3, looks="any")
    assert last(30).startswith("mmlu accuracy")
    assert last(60, looks=3).startswith("mmlu accuracy")


@pytest.mark.parametrize("threshold", [0.0, 1.0, -0.5])
def test_a_threshold_at_the_end_of_a_share_shows_nothing(threshold: float) -> None:
    rule = GateRule("mmlu", kind="at_least", threshold=threshold)
    alone = GateComparison(scores([1.0, 0.0] * 9))
    with pytest.raises(InputError, match="threshold of mmlu", check=about("threshold")):
        ask(rule, on=alone)


def test_a_margin_as_large_as_a_share_shows_nothing_and_which_field_is_wrong() -> None:
    for margin in (1.0, 1.5):
        with pytest.raises(InputError, match=f"is {margin:g}, and a share", check=about("margin")):
            ask(GateRule("mmlu", margin=margin), on=pairs(1, 1, 9))
    ask(GateRule("mmlu", margin=0.99), on=pairs(1, 1, 9))
    wide = comparison([1.0, 2.0, 3.0], [1.5, 2.5, 2.0], metric=SECONDS)
    assert ask(GateRule("mmlu", margin=2.0), on=wide).results[0].bound == -2.0
    with pytest.raises(InputError, check=about("task")) as error:
        ask(GateRule("zzz", margin=0.1), on=pairs(1, 1, 9))
    assert error.value.hint == "evaluate it before asking the gate"
    both = [pairs(1, 1, 9), pairs(1, 1, 9, metric=TOXICITY)]
    with pytest.raises(InputError, check=about("metric")) as error:
        ask(GateRule("mmlu", metric="zzz", margin=0.1), on=both)
    assert error.value.hint == "known: accuracy, toxicity"
    named = ask(GateRule("mmlu", metric="toxicity", margin=0.1), on=both)
    assert named.results[0].title == "mmlu toxicity"
    assert ask(NON_INFERIOR, on=both).results[0].title == "mmlu accuracy"
    others = [pairs(1, 1, 9), pairs(1, 1, 9, task="b")]
    old = GateComparison(others[1].candidate, scores([1.0] * 9, "older", task="b"))
    with pytest.raises(InputError, match="2 baselines: old, older"):
        ask(NON_INFERIOR, GateRule("b", margin=0.1), on=[others[0], old])


def test_a_rejected_model_is_not_asked_for_more_samples() -> None:
    few, bad = pairs(3, 3, 60, task="a"), pairs(10, 90, 600, task="b")
    found = ask(*(GateRule(name, margin=0.05) for name in ("a", "b")), on=[few, bad])
    assert (found.verdict, found.to_json()["more"]) == ("REJECT", None)
    assert found.more is not None
    assert found.to_json()["rules"][0]["more"] == found.more
