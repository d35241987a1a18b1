"""What online training is given: who draws answers, and rewards. Their modules are imported when
they are asked for: most training is given these services and needs none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.registry import LoadedModel
    from lmstack.train.rollouts.protocol import Reward, RolloutConfig, RolloutSampler

__all__ = ["OnlineServices"]


class OnlineServices:
    """`lmstack.train.rollouts.protocol.Services`."""

    def sampler(self, base: LoadedModel, config: RolloutConfig) -> RolloutSampler:
        assert config.weights is not None
        if config.ray is not None:
            from lmstack.pipelines.rollout_ray import RaySampler

            return RaySampler(base, config.weights, config.ray, config.copies, config.threads or 1)
        if config.threads is not None:
            from lmstack.pipelines.rollout_process import ProcessSampler

            return ProcessSampler(base, config.weights, config.threads)
        from lmstack.pipelines.engine_sampler import EngineSampler

        return EngineSampler(base, config.weights)

    def reward(self, name: str, settings: Mapping[str, Any]) -> Reward:
        from lmstack.app.wiring.rewards import reward_for

        return reward_for(name, settings)
