"""What rewards are lent: the sandbox that runs code, and the check that `lmstack ask` has of its
citations. Either is imported when a reward asks for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lmstack.app.wiring.embedders import embedder_named
from lmstack.core import NotFoundError, shown
from lmstack.train.merged import model_named
from lmstack.train.rewards import REWARDS, Checks, reward_named
from lmstack.train.rewards.own import OwnReward
from lmstack.train.rewards.reward_model import RewardModel
from lmstack.train.rollouts.protocol import Reward, WeightedReward

if TYPE_CHECKING:
    from lmstack.agents.sandbox import CodeTests
    from lmstack.pipelines.citation_check import CitationCheck

__all__ = ["reward_for", "rewards_named"]


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
