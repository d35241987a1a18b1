"""A reward model as a reward: the scores of the task, whatever is scored beside them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.errors import about
from tests.train.bases import base_folder
from tests.train.test_reward import one_score

import lmstack
from lmstack.core import InputError, Message, NotFoundError, UnsupportedError
from lmstack.model import Transformer
from lmstack.registry import load
from lmstack.train.rewards import reward_model, reward_named, scored
from lmstack.train.rewards.reward_model import RewardModel
from lmstack.train.rollouts.protocol import RolloutSample, WeightedReward


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMSTACK_HOME", str(tmp_path / "home"))
    torch.set_num_threads(1)


def sample(prompt: str, text: str) -> RolloutSample:
    return RolloutSample((Message("user", prompt),), (), (), (), text, "stop")


SAMPLES = [
    sample("is ada in london", "no"),
    sample("where", "acme corp is in paris and in london and in paris"),
    sample("who wrote the engine", "ada"),
]


def test_scores_are_those_of_the_task_alone_or_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_score("llama", tmp_path)
    items = [{"messages": [*s.prompt, Message("assistant", s.text)]} for s in SAMPLES]
    expected = [each.score for each in lmstack.task("reward", str(tmp_path))(items)]
    reward, forward = RewardModel(str(tmp_path)), Transformer.forward
    asked: list[Any] = []

    def watched(self: Transformer, *given: Any, **named: Any) -> Any:
        asked.append(named["output_hidden_states"])
        return forward(self, *given, **named)

    monkeypatch.setattr(Transformer, "forward", watched)
    assert reward.score(SAMPLES) == pytest.approx(expected, abs=1e-5)
    assert asked == [False]
    monkeypatch.setattr("lmstack.train.rewards.reward_model._PASS_TOKENS", 1)
    assert reward.score(SAMPLES) == pytest.approx(expected, abs=1e-5)
    scaled = RewardModel(str(tmp_path), mean=expected[0], deviation=0.5)
    assert scaled.score(SAMPLES[:1]) == pytest.approx([0.0], abs=1e-4)


def test_an_encoder_is_told_which_of_two_texts_a_token_is_of(tmp_path: Path) -> None:
    one_score("bert", tmp_path)
    loaded, reward = replace(load(tmp_path), kind="reward"), RewardModel(str(tmp_path))
    vars(reward)["_loaded"] = loaded
    items = [{"messages": [*s.prompt, Message("assistant", s.text)]} for s in SAMPLES]
    expected = [each.score for each in lmstack.task("reward", loaded)(items)]
    assert reward.score(SAMPLES) == pytest.approx(expected, abs=1e-5)


def test_a_recipe_names_one_beside_others(tmp_path: Path) -> None:
    one_score("llama", tmp_path)
    reward = reward_named("reward-model", {"model": str(tmp_path)})
    rewards = [WeightedReward(reward, 2.0), WeightedReward(reward_named("finished", {}))]
    alone = RewardModel(str(tmp_path)).score(SAMPLES)
    assert scored(rewards, SAMPLES).totals == pytest.approx([2 * x + 1 for x in alone], abs=1e-5)
    with pytest.raises(InputError, match="the reward reward-model", check=about("model")):
        reward_named("reward-model", {"model": 3})


def test_what_is_no_reward_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="scores no answers", check=about("model")):
        RewardModel(str(base_folder("llama", tmp_path))).score(SAMPLES)
    with pytest.raises(NotFoundError):
        assert RewardModel("no-such-model").digest


def test_what_is_read_of_a_conversation_is_the_end_within_the_shorter_length(
    tmp_path: Path,
) -> None:
    one_score("llama", tmp_path)
    long = sample(" ".join(["is ada in london"] * 30), "no")
    short = sample("is ada in london", "no")
    whole, cut = (RewardModel(str(tmp_path), max_length=n).score([long]) for n in (1000, 16))
    assert whole == pytest.approx(RewardModel(str(tmp_path)).score([long]), abs=1e-6)
    assert cut != pytest.approx(whole, abs=1e-4)
    assert RewardModel(str(tmp_path)).score([]) == []
    scaled = RewardModel(str(tmp_path), mean=2.0, deviation=4.0).score([short])
    (plain,) = RewardModel(str(tmp_path)).score([short])
    assert scaled == pytest.approx([(plain - 2) / 4], abs=1e-6)


def test_passes_hold_up_to_their_tokens_the_shortest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reward_model, "_PASS_TOKENS", 10)
    windows: Any = ["a" * n for n in (6, 2, 4, 30, 4)]
    assert [*reward_model._passes(windows)] == [[1, 2, 4], [0], [3]]
    assert [*reward_model._passes([])] == []
    windows = ["a" * 5] * 4
    assert [*reward_model._passes(windows)] == [[0, 1], [2, 3]]
