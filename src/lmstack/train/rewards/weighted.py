"""The rewards of a recipe, by name and with weights, as one.

    rewards: [{name: json-schema, parsed: 0.2}, {name: length, most: 200, weight: 0.5}]

The reward of an answer is the sum of weight times score. A reward that fails ends the step with its
error; one that gives NaN, an infinity or too few numbers ends it too, in words: no answer is scored
zero for a fault that is not its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import InputError, LmstackError, check_range, nearest, shown
from lmstack.train.rewards.arithmetic import Arithmetic
from lmstack.train.rewards.citations import Citations
from lmstack.train.rewards.json_schema import JsonSchema
from lmstack.train.rewards.loophole import PlantedLoophole
from lmstack.train.rewards.reward import Checks, RewardFunction
from lmstack.train.rewards.shaping import Finished, Length, Markers
from lmstack.train.rewards.unit_tests import UnitTests
from lmstack.train.rollouts.protocol import Reward, Sample

__all__ = ["REWARDS", "Scored", "WeightedRewards", "rewards_of"]

REWARDS: Mapping[str, type[RewardFunction]] = {
    each.name: each
    for each in (
        *(Arithmetic, JsonSchema, UnitTests, Citations, Length, Finished, Markers),
        PlantedLoophole,
    )
}
_MAX_WEIGHT = 1e6


@dataclass(frozen=True)
class Scored:
    """``totals``: of each sample. ``parts``: of each sample too, by reward, before its weight."""

    totals: list[float]
    parts: Mapping[str, list[float]]


class WeightedRewards:
    """A `Reward` made of others. ``parts``: (reward, weight)."""

    name = "reward"

    def __init__(self, parts: Sequence[tuple[Reward, float]]) -> None:
        self._parts: dict[str, tuple[Reward, float]] = {}
        for reward, weight in parts:
            same = sum(known.name == reward.name for known, _ in self._parts.values())
            self._parts[f"{reward.name}-{same + 1}" if same else reward.name] = (reward, weight)

    def check_row(self, row: Mapping[str, Any]) -> None:
        """`InputError` where a reward cannot read ``row``."""
        for reward, _ in self._parts.values():
            if isinstance(reward, RewardFunction):
                reward.check_row(row)

    def score(self, samples: Sequence[Sample]) -> list[float]:
        return self.scored(samples).totals

    def scored(self, samples: Sequence[Sample]) -> Scored:
        """Totals and parts."""
        parts = {name: _checked(name, reward, samples) for name, (reward, _) in self._parts.items()}
        weights = [weight for _, weight in self._parts.values()]
        totals = [
            math.fsum(weight * score for weight, score in zip(weights, scores, strict=True))
            for scores in zip(*parts.values(), strict=True)
        ]
        return Scored(totals, parts)


def _checked(name: str, reward: Reward, samples: Sequence[Sample]) -> list[float]:
    try:
        scores = [float(score) for score in reward.score(samples)]
    except LmstackError as error:
        error.message = f"the reward {name}: {error.message}"
        raise
    if len(scores) != len(samples):
        raise InputError(
            f"the reward {name} gave {len(scores)} numbers for {len(samples)} answers",
            hint="a reward gives one for each",
            param="rewards",
        )
    for score, sample in zip(scores, samples, strict=True):
        if not math.isfinite(score):
            raise InputError(
                f"the reward {name} gave {score} for the answer {shown(sample.text)}",
                hint="a reward is a finite number",
                param="rewards",
            )
    return scores


def rewards_of(given: Any, checks: Checks | None = None) -> WeightedRewards:
    """The rewards that the list ``given`` of a recipe names: names, or mappings with ``name``, a
    ``weight`` (1 unless given) and the reward's settings. `InputError` names the nearest where
    there is none of a name. ``checks``: what rewards are lent; None: nothing is lent yet, and those
    that need it can check rows and score nothing."""
    if not isinstance(given, list | tuple) or not given:
        raise InputError(
            f"rewards is {shown(given)}, not a list of rewards",
            hint="rewards: [{name: arithmetic}]",
            param="rewards",
        )
    return WeightedRewards([_weighted(each, checks) for each in given])


def _weighted(given: Any, checks: Checks | None) -> tuple[Reward, float]:
    settings: Mapping[str, Any] = {"name": given} if isinstance(given, str) else given
    name = settings.get("name") if isinstance(settings, Mapping) else None
    if not isinstance(name, str) or name not in REWARDS:
        guess = nearest(name, REWARDS) if isinstance(name, str) else None
        raise InputError(
            f"there is no reward {shown(given if name is None else name)}",
            hint=f"did you mean {guess!r}?" if guess else f"one of {', '.join(REWARDS)}",
            param="rewards",
        )
    weight = settings.get("weight", 1.0)
    check_range("weight", weight, -_MAX_WEIGHT, _MAX_WEIGHT)
    own = {key: value for key, value in settings.items() if key not in ("name", "weight")}
    reward = REWARDS[name].from_mapping(own)
    return (reward if checks is None else reward.lent(checks)), float(weight)
