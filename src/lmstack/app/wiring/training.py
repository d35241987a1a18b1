"""What training and Constitutional AI are given: who draws answers, rewards, writes and judges.
Their modules are imported when they are asked for: most training is given these services and needs
none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmstack.app import wiring
from lmstack.app.wiring.retrieval import embedder_named
from lmstack.core import ChatModel, NotFoundError, close_model, shown
from lmstack.train.merged import model_named
from lmstack.train.rewards import REWARDS, Checks, reward_named
from lmstack.train.rewards.own import OwnReward
from lmstack.train.rewards.reward_model import RewardModel
from lmstack.train.rollouts.protocol import Reward, WeightedReward

if TYPE_CHECKING:
    from lmstack.agents.sandbox import CodeTests
    from lmstack.evals.judging import PairJudge
    from lmstack.pipelines.citation_check import CitationCheck
    from lmstack.registry import LoadedModel
    from lmstack.train.rollouts.protocol import RolloutConfig, RolloutSampler

__all__ = ["OnlineServices", "WritingModels", "reward_for", "rewards_named"]


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
        return reward_for(name, settings)


def reward_for(name: str, settings: Mapping[str, Any]) -> Reward:
    """The reward of a recipe, ready to score; `LmstackError` where it cannot be had here."""
    if name == RewardModel.name and isinstance(settings.get("model"), str):
        settings = {**settings, "model": model_named(settings["model"])}
    return reward_named(name, settings).lent(Checks(code=_code, citations=_citations))


def rewards_named(names: Sequence[str]) -> tuple[list[WeightedReward], dict[str, str]]:
    """The rewards ``names``: of a recipe's rewards, Python files, or reward models; and what they
    are, each name with the digest of its model or file."""
    found, known = [], {}
    for name in names:
        if name.endswith(".py"):
            own = OwnReward(name)
            known[name] = own.digest
            found.append(WeightedReward(own))
            continue
        if name in REWARDS and name not in (RewardModel.name, OwnReward.name):
            found.append(WeightedReward(reward_for(name, {})))
            known[name] = name
            continue
        reward = RewardModel(model_named(name))
        try:
            known[name] = reward.digest
        except NotFoundError as error:
            raise NotFoundError(
                f"there is no reward and no model {shown(name)}",
                hint=f"a reward model, or one of {', '.join(REWARDS)}",
                param="reward",
            ) from error
        found.append(WeightedReward(reward))
    return found, known


def _code() -> CodeTests:
    from lmstack.agents.sandbox import CodeTests

    tests = CodeTests()
    tests.sandbox.check()
    return tests


def _citations() -> CitationCheck:
    from lmstack.pipelines.citation_check import CitationCheck

    return CitationCheck(embedder_named(None))


class WritingModels:
    """`Models` of `lmstack.pipelines.constitution.stages`. A model is loaded when it is first asked
    and serves every stage that names it, until `release`. ``weights``: the form of local ones."""

    def __init__(self, weights: str | None) -> None:
        self._weights = weights
        self._opened: dict[str, ChatModel] = {}

    def open(self, name: str) -> ChatModel:
        if name not in self._opened:
            form = None if wiring.is_remote(name) else self._weights
            self._opened[name] = wiring.lazy_generator(name, form)
        return self._opened[name]

    def judge(self, model: ChatModel) -> PairJudge:
        from lmstack.evals.judging import PairJudge

        return PairJudge(model)

    def release(self) -> None:
        while self._opened:
            close_model(self._opened.popitem()[1])
