"""What online training is given: who draws answers, and rewards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmstack.app.wiring.engine_sampler import EngineSampler
from lmstack.app.wiring.rewards import reward_for
from lmstack.app.wiring.rollout_process import ProcessSampler
from lmstack.app.wiring.rollout_ray import RaySampler
from lmstack.registry import LoadedModel
from lmstack.train.rollouts.protocol import Reward, RolloutConfig, Sampler

__all__ = ["OnlineServices"]


class OnlineServices:
    """`lmstack.train.rollouts.protocol.Services`."""

    def sampler(self, base: LoadedModel, config: RolloutConfig) -> Sampler:
        assert config.weights is not None
        if config.ray is not None:
            return RaySampler(base, config.weights, config.ray, config.copies, config.threads or 1)
        if config.threads is not None:
            return ProcessSampler(base, config.weights, config.threads)
        return EngineSampler(base, config.weights)

    def reward(self, name: str, settings: Mapping[str, Any]) -> Reward:
        return reward_for(name, settings)
