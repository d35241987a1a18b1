"""What a gate asks for, declared before anything is measured.

Covers the rules and their checks. Not covered: reading the file, which is YAML
(`core.yaml_text.parse_yaml`), and what follows from scores (`decision`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import Config, InputError, check_range, check_text, nearest, shown

__all__ = ["ANY", "GateConfig", "GateRule"]

KINDS = ("non-inferior", "superior", "at_least")
ANY = "any"
_MOST_LOOKS = 20


@dataclass(frozen=True)
class GateRule(Config):
    """One thing that a candidate has to show.

    ``task`` and ``metric``: whose scores; unless given, the metric is the task's first. ``kind``:
    ``non-inferior``, the candidate is worse than the baseline by less than ``margin``;
    ``superior``, it is better by more than ``margin``, 0 unless given; ``at_least``, it is better
    than ``threshold`` itself, whatever the baseline is (for a metric of which less is better, it
    is below). Margins and thresholds are in the unit of the metric. ``alpha`` and ``power``:
    unless given, the gate's."""

    task: str
    kind: str = "non-inferior"
    metric: str = ""
    margin: float | None = None
    threshold: float | None = None
    alpha: float | None = None
    power: float | None = None

    def __post_init__(self) -> None:
        for name in ("task", "metric"):
            check_text(name, getattr(self, name))
        if not self.task:
            raise InputError("a rule names no task", hint="task: NAME", param="task")
        if self.kind not in KINDS:
            guess = nearest(str(self.kind), KINDS)
            raise InputError(
                f"kind is {shown(self.kind)}",
                hint=f"did you mean {guess!r}?" if guess else f"known: {', '.join(KINDS)}",
                param="kind",
            )
        _check_levels(self.alpha, self.power)
        self._check_bounds()

    def _check_bounds(self) -> None:
        needs, other = ("threshold", "margin") if self.kind == "at_least" else _NEEDS_MARGIN
        if getattr(self, other) is not None:
            raise InputError(
                f"the rule of {self.task} is {self.kind} and has a {other}",
                hint=f"a rule that is {self.kind} takes a {needs}",
                param=other,
            )
        value = getattr(self, needs)
        if value is None and self.kind != "superior":
            raise InputError(
                f"the rule of {self.task} is {self.kind} and has no {needs}",
                hint=f"declare it beforehand, in the unit of the metric: {needs}: 0.02",
                param=needs,
            )
        if value is not None:
            check_range(needs, value, -math.inf, math.inf, low_open=True, high_open=True)
        if needs == "margin" and value is not None:
            no_margin = self.kind == "non-inferior"
            check_range(needs, value, 0, math.inf, low_open=no_margin, high_open=True)

    @property
    def bound(self) -> float:
        """What is to be shown to lie below the gain, or the score, where more is better."""
        if self.kind == "at_least":
            return float(self.threshold or 0)
        return float(self.margin or 0) * (-1 if self.kind == "non-inferior" else 1)

    @property
    def title(self) -> str:
        return f"{self.task} {self.metric}".rstrip()


_NEEDS_MARGIN = ("margin", "threshold")


def _check_levels(alpha: float | None, power: float | None) -> None:
    if alpha is not None:
        check_range("alpha", alpha, 0, 0.5, low_open=True, high_open=True)
    if power is not None:
        check_range("power", power, 0.5, 1, high_open=True)


@dataclass(frozen=True)
class GateConfig(Config):
    """``rules``: all of them must hold. ``alpha``: how often, at most, a candidate passes that
    breaks a rule. ``power``: how sure one may be that a better one passes, from which sample sizes
    follow. ``looks``: how often the gate may be asked about the same candidate with more samples
    each time: a number, over which alpha is divided, or ``any``, which bets on the scores as they
    come and is valid at every look."""

    rules: tuple[GateRule, ...]
    alpha: float = 0.05
    power: float = 0.8
    looks: int | str = 1

    def __post_init__(self) -> None:
        if isinstance(self.rules, str | Mapping) or not isinstance(self.rules, Sequence):
            raise InputError(
                f"rules is {shown(self.rules)}, not a list", hint="- task: NAME", param="rules"
            )
        rules = tuple(
            rule if isinstance(rule, GateRule) else GateRule.from_mapping(rule)
            for rule in self.rules
        )
        object.__setattr__(self, "rules", rules)
        if not rules:
            raise InputError(
                "a gate without rules would let everything pass",
                hint="declare at least one: - task: NAME",
                param="rules",
            )
        seen = [(rule.task, rule.metric, rule.kind) for rule in rules]
        twice = next((key for key in seen if seen.count(key) > 1), None)
        if twice is not None:
            raise InputError(
                f"{twice[0]} {twice[1]} has two rules that are {twice[2]}".replace("  ", " "),
                hint="keep the stricter one",
                param="rules",
            )
        _check_levels(self.alpha, self.power)
        known = isinstance(self.looks, int) and not isinstance(self.looks, bool)
        if self.looks != ANY and not (known and 1 <= int(self.looks) <= _MOST_LOOKS):
            raise InputError(
                f"looks is {shown(self.looks)}",
                hint=f"a whole number from 1 to {_MOST_LOOKS}, or {ANY}",
                param="looks",
            )

    def alpha_of(self, rule: GateRule) -> float:
        """Of one look."""
        level = self.alpha if rule.alpha is None else rule.alpha
        return level if self.looks == ANY else level / int(self.looks)

    def power_of(self, rule: GateRule) -> float:
        return self.power if rule.power is None else rule.power

    def to_json(self) -> dict[str, Any]:
        """What `from_mapping` reads."""
        rules = [{k: v for k, v in vars(r).items() if v not in (None, "")} for r in self.rules]
        return {"rules": rules, "alpha": self.alpha, "power": self.power, "looks": self.looks}
