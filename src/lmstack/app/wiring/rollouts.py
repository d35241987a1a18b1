"""What online training is given: who draws answers, and rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.app.wiring.engine_sampler import EngineSampler
from lmstack.app.wiring.rewards import reward_for
from lmstack.app.wiring.rollout_process import ProcessSampler
from lmstack.registry import LoadedModel
from lmstack.train.rollouts.protocol import Reward, Sampler

__all__ = ["OnlineServices"]


class OnlineServices:
    """`lmstack.train.rollouts.protocol.Services`."""

    def sampler(self, base: LoadedModel, weights: str, threads: int | None = None) -> Sampler:
        if threads is None:
            return EngineSampler(base, weights)
        return ProcessSampler(base, weights, threads)

    def reward(self, name: str, settings: Mapping[str, Any]) -> Reward:
        return reward_for(name, settings)
