"""What rewards are lent: the sandbox that runs code, and the check that `lmstack ask` has of its
citations. Either is imported when a reward asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lmstack.app.wiring.embedders import embedder_named
from lmstack.app.wiring.merged import model_named
from lmstack.train.rewards import Checks, reward_named
from lmstack.train.rewards.reward_model import RewardModel
from lmstack.train.rollouts.protocol import Reward

if TYPE_CHECKING:
    from lmstack.agents.sandbox import CodeTests
    from lmstack.app.wiring.citation_check import CitationCheck

__all__ = ["reward_for"]


def reward_for(name: str, settings: Mapping[str, Any]) -> Reward:
    """The reward of a recipe, ready to score; `LmstackError` where it cannot be had here."""
    if name == RewardModel.name and isinstance(settings.get("model"), str):
        settings = {**settings, "model": model_named(settings["model"])}
    return reward_named(name, settings).lent(Checks(code=_code, citations=_citations))


def _code() -> CodeTests:
    from lmstack.agents.sandbox import CodeTests

    tests = CodeTests()
    tests.sandbox.check()
    return tests


def _citations() -> CitationCheck:
    from lmstack.app.wiring.citation_check import CitationCheck

    return CitationCheck(embedder_named(None))
