"""The verdict: PROMOTE, HOLD or REJECT, and why.

A candidate is promoted where every rule is shown to hold. All of them have to, so each is tested at
the full level: that all tests err together is no likelier than that one does (an intersection-union
test; Berger, 1982), whatever the number of rules. Rules that claim superiority are adjusted among
themselves all the same (Holm), so that each claim can be quoted on its own. It is rejected where
one rule is shown to be broken; there one error is enough, so those tests are adjusted (Holm) over
all rules. Otherwise nothing is shown, and it is held.

Not covered: running what is missing, and signing (`registry`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from lmstack.core import InputError, nearest
from lmstack.evals.gate.config import ANY, GateConfig, GateRule
from lmstack.evals.gate.scores import GateComparison
from lmstack.evals.noninferiority import MeanTest
from lmstack.evals.statistics import holm

__all__ = ["GateDecision", "RuleResult", "Verdict", "decide"]

Verdict = Literal["PROMOTE", "HOLD", "REJECT"]
Outcome = Literal["passed", "broken", "undecided"]


@dataclass(frozen=True)
class RuleResult:
    """``p``: of the rule being broken, as far as the scores go, small where it holds;
    ``p_adjusted``: over the claims of superiority. ``p_harm``: of its holding, small where it is
    broken, adjusted over all rules. ``alpha``: of one look."""

    rule: GateRule
    comparison: GateComparison
    test: MeanTest
    alpha: float
    power: float
    p: float
    p_adjusted: float
    p_harm: float

    @property
    def outcome(self) -> Outcome:
        if self.p_adjusted <= self.alpha:
            return "passed"
        return "broken" if self.p_harm <= self.alpha else "undecided"

    @property
    def _sign(self) -> int:
        """Of scores that are shown as they are; gains are shown so that more is better."""
        return self.comparison.candidate.sign if self.rule.kind == "at_least" else 1

    @property
    def bound(self) -> float:
        """In the direction of the test, more being better."""
        return _bound(self.rule, self.comparison)

    @property
    def value(self) -> float:
        """The gain over the baseline, or the score."""
        return self._sign * self.test.value

    @cached_property
    def interval(self) -> tuple[float, float]:
        """At 1 - 2 alpha: it leaves the bound out where one of the tests is significant."""
        limits = (self.test.lower(self.alpha), self.test.upper(self.alpha))
        low, high = sorted(self._sign * limit for limit in limits)
        return low, high

    @cached_property
    def detectable(self) -> float:
        """The smallest distance from the bound that these samples show with the power wanted."""
        return self.test.detectable(self.bound, self.alpha, self.power)

    @cached_property
    def power_if_equal(self) -> float | None:
        """The probability that a candidate as good as the baseline is shown not to be inferior."""
        if self.rule.kind != "non-inferior":
            return None
        return self.test.power(self.bound, self.alpha, 0.0)

    @cached_property
    def more(self) -> int | None:
        """How many more samples would show that the rule holds, with the power wanted, if the
        true value is the one measured. For a candidate that is measured below the bound, how many
        if it is as good as the baseline. None where no number would."""
        now, bound = self.test.samples, self.bound
        found = self.test.needed(bound, self.alpha, self.power, self.test.value)
        if found is None and self.rule.kind == "non-inferior":
            found = self.test.needed(bound, self.alpha, self.power, 0.0)
        return None if found is None else max(1, found - now)

    @property
    def sentence(self) -> str:
        """What was asked, what was found, and what follows."""
        return f"{self.title}: {self.asked}: {self._shown}. {self._measured}"

    @property
    def title(self) -> str:
        return f"{self.comparison.task} {self.comparison.metric.name}"

    @property
    def asked(self) -> str:
        rule, number = self.rule, self._number
        if rule.kind == "at_least":
            side = "above" if self.comparison.metric.better == "higher" else "below"
            return f"{side} {number(rule.bound)}"
        if rule.kind == "superior":
            more = f" by more than {number(rule.bound)}" if rule.bound else ""
            return f"better than the baseline{more}"
        return f"not worse than the baseline by {number(-rule.bound)} or more"

    @property
    def _shown(self) -> str:
        if self.outcome == "passed":
            return f"shown (p {_p(self.p_adjusted)})"
        if self.outcome == "broken":
            return f"broken (p {_p(self.p_harm)})"
        return f"undecided (p {_p(self.p_adjusted)}, alpha {self.alpha:g})"

    @property
    def _measured(self) -> str:
        if math.isnan(self.detectable):
            return "One cluster of samples tells nothing about others."
        low, high = (self._number(limit) for limit in self.interval)
        what = "It scores" if self.rule.kind == "at_least" else "The gain is"
        text = (
            f"{what} {self._number(self.value)} ({1 - 2 * self.alpha:.0%} interval {low} to {high})"
            f" on {self.test.samples:,} samples; the minimum detectable effect, from the bound, is"
            f" {self._number(self.detectable)} at a power of {self.power:.0%}"
        )
        if self.power_if_equal is not None:
            text += f", and the power for an equal model {self.power_if_equal:.0%}"
        return text + "."

    def _number(self, value: float) -> str:
        return f"{value:.{max(self.comparison.metric.decimals, 1)}f}"

    def to_json(self) -> dict[str, Any]:
        low, high = self.interval
        return {
            "task": self.comparison.task,
            "metric": self.comparison.metric.name,
            "kind": self.rule.kind,
            "bound": self.rule.bound,
            "outcome": self.outcome,
            "value": self.value,
            "low": _finite(low),
            "high": _finite(high),
            "samples": self.test.samples,
            "test": self.test.name,
            "alpha": self.alpha,
            "power": self.power,
            "p": self.p,
            "p_adjusted": self.p_adjusted,
            "p_harm": self.p_harm,
            "detectable": _finite(self.detectable),
            "power_if_equal": _finite(self.power_if_equal),
            "more": self.more if self.outcome == "undecided" else None,
            "protocol": self.comparison.candidate.protocol,
            "data": self.comparison.candidate.data,
        }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _p(value: float) -> str:
    if value < 1e-6:
        return "below 1e-6"
    return f"{value:.3f}" if value >= 0.001 else f"{value:.1g}"


@dataclass(frozen=True)
class GateDecision:
    """Of one candidate, against one baseline where there is one."""

    config: GateConfig
    results: tuple[RuleResult, ...]

    @property
    def verdict(self) -> Verdict:
        outcomes = {result.outcome for result in self.results}
        if "broken" in outcomes:
            return "REJECT"
        return "HOLD" if "undecided" in outcomes else "PROMOTE"

    @property
    def passed(self) -> bool:
        return self.verdict == "PROMOTE"

    @cached_property
    def more(self) -> int | None:
        """Of a HOLD: the samples more that the neediest rule asks for. None where for some rule no
        number would do."""
        needs = [result.more for result in self.results if result.outcome == "undecided"]
        known = [need for need in needs if need is not None]
        return max(known) if known and len(known) == len(needs) else None

    @cached_property
    def reasons(self) -> tuple[str, ...]:
        """The verdict's own, then one for each rule."""
        return (self._summary, *(result.sentence for result in self.results), *self._notes())

    @property
    def _summary(self) -> str:
        if self.verdict == "PROMOTE":
            return f"PROMOTE: every rule is shown to hold ({len(self.results)} of them)."
        if self.verdict == "REJECT":
            broken = [self._name(each) for each in self.results if each.outcome == "broken"]
            return f"REJECT: shown to be broken: {', '.join(broken)}."
        undecided = [each for each in self.results if each.outcome == "undecided"]
        return f"HOLD: {' '.join(_missing(each, self._name(each)) for each in undecided)}"

    def _name(self, result: RuleResult) -> str:
        """Its title, and what it asks where another rule has the same title."""
        alike = sum(each.title == result.title for each in self.results)
        return result.title if alike == 1 else f"{result.title} {result.asked}"

    def _notes(self) -> list[str]:
        said = []
        if len(self.results) > 1:
            said.append(
                "All rules must hold, so each is tested at its full level (an intersection-union"
                " test). Claims of superiority, and of a broken rule, are adjusted (Holm)."
            )
        if self.config.looks == ANY:
            said.append("The gate may be asked again at any time: its tests bet on the scores.")
        elif self.verdict == "HOLD":
            said.append(
                "Asking again with more samples is another chance to pass by luck: declare the"
                " number of looks beforehand."
                if self.config.looks == 1
                else f"Alpha is divided over {self.config.looks} looks, of which this is one."
            )
        return said

    def to_json(self) -> dict[str, Any]:
        first = self.results[0].comparison
        return {
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "more": self.more if self.verdict == "HOLD" else None,
            "rules": [result.to_json() for result in self.results],
            "config": self.config.to_json(),
            "candidate": first.candidate.digest,
            "baseline": first.baseline.digest if first.baseline is not None else None,
        }


def _missing(result: RuleResult, name: str) -> str:
    if result.more is None:
        more = "no number of samples would show it if the truth is as measured"
    else:
        truth = "is as measured" if result.test.value > result.bound else "equals the baseline"
        more = (
            f"about {result.more:,} more samples would show it with probability"
            f" {result.power:.0%} if the candidate {truth}"
        )
    return f"{name} is undecided; {more}."


def decide(config: GateConfig, comparisons: Sequence[GateComparison]) -> GateDecision:
    """What ``config`` says of ``comparisons``. `InputError` where a rule cannot be tested: a task
    or a baseline that is missing, two comparisons of one metric, several systems."""
    _check_systems(comparisons)
    found = [_comparison_of(rule, comparisons) for rule in config.rules]
    tests = [_test_of(rule, each, config) for rule, each in zip(config.rules, found, strict=True)]
    bounds = [_bound(rule, each) for rule, each in zip(config.rules, found, strict=True)]
    # A p-value of 1 is always valid: the test that the measured value speaks against is left out.
    ahead = [test.value > bound for test, bound in zip(tests, bounds, strict=True)]
    good = [t.p_above(b) if up else 1.0 for t, b, up in zip(tests, bounds, ahead, strict=True)]
    bad = [1.0 if up else t.p_below(b) for t, b, up in zip(tests, bounds, ahead, strict=True)]
    claims = [place for place, rule in enumerate(config.rules) if rule.kind == "superior"]
    adjusted = list(good)
    for place, p in zip(claims, holm([good[i] for i in claims]), strict=True):
        adjusted[place] = p
    harms = holm(bad)
    return GateDecision(
        config,
        tuple(
            RuleResult(
                rule,
                found[i],
                tests[i],
                config.alpha_of(rule),
                config.power_of(rule),
                good[i],
                adjusted[i],
                harms[i],
            )
            for i, rule in enumerate(config.rules)
        ),
    )


def _bound(rule: GateRule, comparison: GateComparison) -> float:
    return rule.bound * (comparison.candidate.sign if rule.kind == "at_least" else 1)


def _test_of(rule: GateRule, comparison: GateComparison, config: GateConfig) -> MeanTest:
    any_look = config.looks == ANY
    name = "threshold" if rule.kind == "at_least" else "margin"
    least = 0.0 if rule.kind == "at_least" else -1.0
    if comparison.candidate.is_bounded and not least < rule.bound < 1:
        raise InputError(
            f"the {name} of {rule.title} is {abs(rule.bound):g}, and a share is between 0 and 1:"
            " nothing could be shown",
            hint=f"declare a {name} below 1: 0.02 is two in a hundred samples",
            param=name,
        )
    if rule.kind == "at_least":
        return comparison.candidate.test(any_look)
    return comparison.test(any_look)


def _comparison_of(rule: GateRule, comparisons: Sequence[GateComparison]) -> GateComparison:
    of_task = [each for each in comparisons if each.task == rule.task]
    if not of_task:
        known = sorted({each.task for each in comparisons})
        guess = nearest(rule.task, known)
        raise InputError(
            f"nothing was measured of the task {rule.task}",
            hint=f"did you mean {guess!r}?" if guess else "evaluate it before asking the gate",
            param="task",
        )
    named = [each for each in of_task if rule.metric in ("", each.metric.name)]
    if not named:
        known = [each.metric.name for each in of_task]
        guess = nearest(rule.metric, known)
        raise InputError(
            f"{rule.task} has no metric {rule.metric}",
            hint=f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}",
            param="metric",
        )
    first = named[0]
    if sum(each.metric.name == first.metric.name for each in named) > 1:
        raise InputError(
            f"{rule.task} {first.metric.name} was passed twice", hint="pass each comparison once"
        )
    return first


def _check_systems(comparisons: Sequence[GateComparison]) -> None:
    for what, digests in (
        ("candidates", {each.candidate.digest for each in comparisons}),
        ("baselines", {each.baseline.digest for each in comparisons if each.baseline is not None}),
    ):
        if len(digests) > 1:
            raise InputError(
                f"the comparisons are of {len(digests)} {what}: {', '.join(sorted(digests))}",
                hint="ask the gate about one candidate and one baseline",
            )
