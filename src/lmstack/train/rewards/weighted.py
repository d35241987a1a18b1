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

from lmstack.core import InputError, LmstackError, nearest, shown
from lmstack.train.rewards.arithmetic import Arithmetic
from lmstack.train.rewards.citations import Citations
from lmstack.train.rewards.json_schema import JsonSchema
from lmstack.train.rewards.own import OwnReward
from lmstack.train.rewards.reward import RewardFunction
from lmstack.train.rewards.reward_model import RewardModel
from lmstack.train.rewards.shaping import Finished, Length, Markers
from lmstack.train.rewards.unit_tests import UnitTests
from lmstack.train.rollouts.protocol import Reward, RolloutSample, WeightedReward

__all__ = ["REWARDS", "Scored", "part_names", "reward_named", "scored"]

REWARDS: Mapping[str, type[RewardFunction]] = {
    each.name: each
    for each in (
        *(Arithmetic, JsonSchema, UnitTests, Citations, Length, Finished, Markers),
        *(RewardModel, OwnReward),
    )
}


def reward_named(name: str, settings: Mapping[str, Any]) -> RewardFunction:
    """The reward ``name`` of a recipe; an unknown name or setting names the nearest. It checks
    rows; to score it may need what `RewardFunction.lent` gives it."""
    if name not in REWARDS:
        guess = nearest(name, REWARDS)
        raise InputError(
            f"there is no reward {shown(name)}",
            hint=f"did you mean {guess!r}?" if guess else f"one of {', '.join(REWARDS)}",
            param="rewards",
        )
    try:
        return REWARDS[name].from_mapping(settings)
    except InputError as error:
        raise InputError(
            f"the reward {name}: {error.message}", hint=error.hint, param=error.param
        ) from error


@dataclass(frozen=True)
class Scored:
    """``totals``: of each sample. ``parts``: of each sample too, by reward, before its weight; the
    second of one name is ``NAME-2``."""

    totals: list[float]
    parts: Mapping[str, list[float]]


def scored(rewards: Sequence[WeightedReward], samples: Sequence[RolloutSample]) -> Scored:
    """What ``rewards`` give ``samples``; `InputError` where one gives no finite number for each."""
    names = part_names([each.reward.name for each in rewards])
    parts: dict[str, list[float]] = {}
    weighted: list[list[float]] = []
    for name, each in zip(names, rewards, strict=True):
        parts[name] = _checked(each.reward, samples)
        weighted.append([each.weight * score for score in parts[name]])
    return Scored(list(map(math.fsum, zip(*weighted, strict=True))), parts)


def part_names(names: Sequence[str]) -> list[str]:
    """What the scores of rewards of these ``names`` are called: see `Scored.parts`."""
    return [
        f"{name}-{n + 1}" if (n := names[:place].count(name)) else name
        for place, name in enumerate(names)
    ]


def _checked(reward: Reward, samples: Sequence[RolloutSample]) -> list[float]:
    try:
        scores = [float(score) for score in reward.score(samples)]
    except LmstackError as error:
        error.message = f"the reward {reward.name}: {error.message}"
        raise
    if len(scores) != len(samples):
        raise InputError(
            f"the reward {reward.name} gave {len(scores)} numbers for {len(samples)} answers",
            hint="a reward gives one for each",
            param="rewards",
        )
    for place, score in enumerate(scores):
        if not math.isfinite(score):
            text = shown(samples[place].text)
            raise InputError(
                f"the reward {reward.name} gave {score} for the answer {text}",
                hint="a reward is a finite number",
                param="rewards",
            )
    return scores
