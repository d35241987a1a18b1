"""Gates by the thousand: how often a model at the margin is promoted, and how often an equal one.

A model that is worse by exactly the margin breaks the rule by a hair: that is where promotion is
likeliest of all that should not happen. It is also where rejection is: the rule is only just
broken. `benchmarks/gate_rates.py` counts 2,000 gates of each kind and records the rates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.evals.gate.samples import ACCURACY, SECONDS, TOXICITY, equal_clusters

from lmstack.evals.gate import GateComparison, GateConfig, GateRule, TaskScores, decide
from lmstack.evals.metrics.likelihood import GOLD_BITS
from lmstack.evals.statistics import Estimate, wilson

GATES, ALPHA = 400, 0.05
IDS = tuple(map(str, range(1000)))
Draw = Callable[[np.random.Generator], GateComparison]


def compared(candidate: Any, baseline: Any, metric: Any = ACCURACY, **more: Any) -> GateComparison:
    ids = IDS[: len(baseline)]
    sides = (
        TaskScores("t", metric, ids, np.asarray(rows, float), "p", "d", digest, **more)
        for rows, digest in ((candidate, "new"), (baseline, "old"))
    )
    return GateComparison(*sides)


def promoted(draw: Draw, rule: GateRule, gates: int = GATES, **more: Any) -> Estimate:
    return verdicts("PROMOTE", [draw], (rule,), gates, **more)


def verdicts(
    verdict: str,
    draws: Sequence[Draw],
    rules: tuple[GateRule, ...],
    gates: int = GATES,
    **more: Any,
) -> Estimate:
    """The share of gates that say ``verdict``. Of several draws each has a rule, by its name of a
    metric."""
    rng, config = np.random.default_rng(0), GateConfig(rules, **more)
    names = [rule.metric for rule in rules] if len(draws) > 1 else []

    def asked() -> list[GateComparison]:
        found = [draw(rng) for draw in draws]
        return list(map(named, found, names)) if names else found

    return wilson(sum(decide(config, asked()).verdict == verdict for _ in range(gates)), gates)


def named(found: GateComparison, name: str) -> GateComparison:
    assert found.baseline is not None
    metric = replace(ACCURACY, name=name)
    return compared(found.candidate.rows, found.baseline.rows, metric)


def right_or_wrong(
    samples: int, right: float, lost: float, gained: float, size: int = 1, alike: float = 0.0
) -> Draw:
    """The baseline gets a share of ``right``; the candidate loses and gains shares of all samples.
    In a share of ``alike`` of the clusters of ``size``, all samples go the same way."""

    def draw(rng: np.random.Generator) -> GateComparison:
        clusters = samples // size
        fate = rng.random((clusters, size))
        fate = np.where(rng.random((clusters, 1)) < alike, fate[:, :1], fate).ravel()
        baseline = fate < right
        candidate = np.where(baseline, fate >= lost, fate > 1 - gained)
        more = {"clusters": equal_clusters(clusters, size)} if size > 1 else {}
        return compared(candidate, baseline, **more)

    return draw


PAIRS = [  # samples, right, lost, gained: a difference of -0.05
    (80, 0.6, 0.10, 0.05),
    (60, 0.9, 0.05, 0.00),
]
MORE_PAIRS = [
    *((n, 0.5, lost, lost - 0.05) for n in (40, 100, 250) for lost in (0.05, 0.1, 0.3, 0.45)),
    *((n, 0.95, lost, lost - 0.05) for n in (40, 250, 800) for lost in (0.05, 0.07)),
    *((n, 0.2, lost, lost - 0.05) for n in (100, 250) for lost in (0.06, 0.15)),
]


@pytest.mark.parametrize("case", PAIRS)
def test_right_or_wrong_at_the_margin(case: tuple[int, float, float, float]) -> None:
    rule = GateRule("t", margin=0.05)
    assert promoted(right_or_wrong(*case), rule).low <= ALPHA


@pytest.mark.long
@pytest.mark.parametrize("case", MORE_PAIRS)
def test_right_or_wrong_at_the_margin_with_other_rates(
    case: tuple[int, float, float, float],
) -> None:
    rule = GateRule("t", margin=0.05)
    assert promoted(right_or_wrong(*case), rule).low <= ALPHA


CLUSTERS = [  # samples, right, lost, gained, size, alike
    (200, 0.6, 0.15, 0.10, 4, 0.5),
    (200, 0.9, 0.05, 0.00, 4, 1.0),
]
MORE_CLUSTERS = [
    (n, right, lost, lost - 0.05, size, alike)
    for n, size in ((200, 2), (200, 10), (600, 5))
    for right, lost in ((0.5, 0.3), (0.9, 0.06))
    for alike in (0.0, 0.3, 1.0)
]


@pytest.mark.parametrize("case", CLUSTERS)
def test_clusters_at_the_margin(case: Any) -> None:
    rule = GateRule("t", margin=0.05)
    assert promoted(right_or_wrong(*case), rule).low <= ALPHA


@pytest.mark.long
@pytest.mark.parametrize("case", MORE_CLUSTERS)
def test_clusters_at_the_margin_with_other_rates(case: Any) -> None:
    rule = GateRule("t", margin=0.05)
    assert promoted(right_or_wrong(*case), rule).low <= ALPHA


def test_clusters_taken_for_samples_would_promote_too_often() -> None:
    """So that the trap is one: the same scores without their clusters."""
    clustered = right_or_wrong(200, 0.9, 0.05, 0.00, 4, 1.0)

    def draw(rng: np.random.Generator) -> GateComparison:
        found = clustered(rng)
        assert found.baseline is not None
        return compared(found.candidate.rows, found.baseline.rows)

    assert promoted(draw, GateRule("t", margin=0.05), 500).low > ALPHA


def graded(noise: float, worse: float, samples: int = 120) -> Draw:
    """Scores from 0 to 1: the candidate draws a share of ``noise`` of them anew, and fails so many
    that its mean is ``worse``."""

    def draw(rng: np.random.Generator) -> GateComparison:
        baseline = rng.beta(4, 2, samples)
        anew = np.where(rng.random(samples) < noise, rng.beta(4, 2, samples), baseline)
        failed = rng.random(samples) < worse / (4 / 6)
        return compared(np.where(failed, 0.0, anew), baseline)

    return draw


@pytest.mark.parametrize("noise", [0.0, pytest.param(0.5, marks=pytest.mark.long)])
def test_grades_at_the_margin(noise: float) -> None:
    assert promoted(graded(noise, 0.05), GateRule("t", margin=0.05)).low <= ALPHA


def slower(skew: float, samples: int = 50) -> Draw:
    """Seconds; the candidate takes 0.1 more in the mean, its differences skewed either way."""

    def draw(rng: np.random.Generator) -> GateComparison:
        baseline = rng.gamma(3, size=samples)
        noise = skew * (rng.gamma(2, size=samples) - 2) / np.sqrt(2)
        return compared(baseline + 0.1 + noise * 0.4, baseline, SECONDS)

    return draw


def bits(worse: float, samples: int = 60) -> Draw:
    """Log-probabilities of answers of uneven length; a byte costs the candidate ``worse`` bits more
    in the mean, and up to a fifth more or less from answer to answer."""

    def draw(rng: np.random.Generator) -> GateComparison:
        size = rng.integers(20, 300, samples).astype(float)
        each = 0.8 + rng.normal(0, 0.2, samples)
        more = worse + rng.normal(0, 0.06, samples)
        sides = [np.stack([-nats * size * np.log(2), size], 1) for nats in (each + more, each)]
        return compared(sides[0], sides[1], GOLD_BITS)

    return draw


def test_bits_per_byte_at_the_margin() -> None:
    assert promoted(bits(0.02), GateRule("t", margin=0.02)).low <= ALPHA


@pytest.mark.parametrize("skew", [1.0, pytest.param(-1.0, marks=pytest.mark.long)])
def test_seconds_at_the_margin(skew: float) -> None:
    assert promoted(slower(skew), GateRule("t", margin=0.1)).low <= ALPHA


def test_a_threshold_that_is_just_met() -> None:
    rule = GateRule("t", kind="at_least", threshold=0.9)

    def draw(rng: np.random.Generator) -> GateComparison:
        return compared(rng.random(150) < 0.9, np.zeros(150))

    assert promoted(draw, rule).low <= ALPHA


@pytest.mark.long
def test_a_ceiling_that_is_just_met() -> None:
    rule = GateRule("t", kind="at_least", threshold=0.1)

    def draw(rng: np.random.Generator) -> GateComparison:
        return compared(rng.random(150) < 0.1, np.zeros(150), TOXICITY)

    assert promoted(draw, rule).low <= ALPHA


def test_the_same_scores_in_new_words_are_not_superior() -> None:
    rule = GateRule("t", kind="superior")
    assert promoted(right_or_wrong(60, 0.6, 0.2, 0.2), rule).low <= ALPHA


THREE = tuple(GateRule("t", metric=name, margin=0.05) for name in ("one", "two", "three"))


def test_many_rules_are_no_way_around_one() -> None:
    """Broken by a hair in one of three; in the others the candidate is better."""
    bad, good = right_or_wrong(60, 0.6, 0.1, 0.05), right_or_wrong(30, 0.5, 0.0, 0.3)
    assert verdicts("PROMOTE", [bad, good, good], THREE).low <= ALPHA


def test_a_model_at_the_margin_is_not_rejected_too_often() -> None:
    rule = GateRule("t", margin=0.05)
    assert verdicts("REJECT", [right_or_wrong(80, 0.6, 0.1, 0.05)], (rule,)).low <= ALPHA


def test_a_model_at_the_margin_of_three_rules_is_not_rejected_too_often() -> None:
    at_margin = [right_or_wrong(60, 0.6, 0.1, 0.05)] * 3
    assert verdicts("REJECT", at_margin, THREE).low <= ALPHA


def promoted_at_any_look(
    looks: int | str, draw: Draw, sizes: Sequence[int], gates: int = GATES
) -> Estimate:
    """Looks at a growing set, promoted at the first that passes."""
    config = GateConfig((GateRule("t", margin=0.05),), looks=looks)
    rng, count = np.random.default_rng(0), 0
    for _ in range(gates):
        whole = draw(rng)
        assert whole.baseline is not None
        parts = (
            compared(whole.candidate.rows[:samples], whole.baseline.rows[:samples])
            for samples in sizes
        )
        count += any(decide(config, [part]).passed for part in parts)
    return wilson(count, gates)


@pytest.mark.parametrize("looks", [3, pytest.param("any", marks=pytest.mark.long)])
def test_looking_again_with_more_samples(looks: int | str) -> None:
    draw = right_or_wrong(90, 0.6, 0.1, 0.05)
    assert promoted_at_any_look(looks, draw, (30, 60, 90)).low <= ALPHA


@pytest.mark.long
def test_looks_that_were_not_declared_promote_too_often() -> None:
    """So that the trap is one: five looks at the level of one."""
    draw = right_or_wrong(150, 0.6, 0.1, 0.05)
    assert promoted_at_any_look(1, draw, range(30, 151, 30), 250).low > ALPHA


def power_at(draw: Callable[[float], Draw], rule: GateRule, gates: int = GATES) -> Estimate:
    """How often a candidate is promoted whose distance from the bound is the one that gates print
    as detectable (their mean, for a candidate at that very distance)."""
    rng, config, effect = np.random.default_rng(1), GateConfig((rule,)), 0.05
    for _ in range(2):
        printed = [
            decide(config, [draw(rule.bound + effect)(rng)]).results[0].detectable
            for _ in range(100)
        ]
        effect = float(np.mean(printed))
    return promoted(draw(rule.bound + effect), rule, gates)


def test_power_of_pairs_is_the_one_printed() -> None:
    def draw(gain: float) -> Draw:
        return right_or_wrong(120, 0.6, 0.08 - gain / 2, 0.08 + gain / 2)

    found = power_at(draw, GateRule("t", margin=0.1), 500)
    assert found.low - 0.03 <= 0.8 <= found.high + 0.03


@pytest.mark.long
def test_power_of_clusters_is_the_one_printed() -> None:
    def draw(gain: float) -> Draw:
        return right_or_wrong(400, 0.6, 0.10 - gain / 2, 0.10 + gain / 2, 4, 0.3)

    found = power_at(draw, GateRule("t", margin=0.1), 500)
    assert found.low - 0.03 <= 0.8 <= found.high + 0.03


def test_power_of_bits_per_byte_is_the_one_printed() -> None:
    found = power_at(lambda gain: bits(-gain), GateRule("t", margin=0.02), 500)
    assert found.low - 0.03 <= 0.8 <= found.high + 0.03


@pytest.mark.parametrize("skew", [1, pytest.param(-1, marks=pytest.mark.long)])
def test_power_of_seconds_that_are_skewed_is_the_one_printed(skew: int) -> None:
    def draw(gain: float) -> Draw:
        def one(rng: np.random.Generator) -> GateComparison:
            baseline = rng.gamma(3, size=50)
            noise = skew * (rng.gamma(2, size=50) - 2) / np.sqrt(2)
            return compared(baseline - gain + noise * 0.4, baseline, SECONDS)

        return one

    found = power_at(draw, GateRule("t", margin=0.2), 500)
    assert found.low - 0.03 <= 0.8 <= found.high + 0.03
