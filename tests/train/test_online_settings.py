"""What objectives that learn from their own answers read, ask for, and call their rewards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.errors import about

from lmstack.core import Grammar, InputError, Message
from lmstack.text import ChatTemplate, VocabularyConfig, train_tokenizer
from lmstack.text.training import CHATML
from lmstack.train.data.rows import Row
from lmstack.train.objectives.grpo import GroupRelativePolicy
from lmstack.train.objectives.objective import Reading
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.objectives.ppo import PPO
from lmstack.train.rollouts.protocol import Drawing, RolloutConfig


def objective(**changes: Any) -> GroupRelativePolicy:
    return GroupRelativePolicy(**{"rewards": ["given"], "max_tokens": 8, **changes})


def reading(max_length: int = 64, *, chat: bool = False) -> Reading:
    special = CHATML.special_tokens
    tokenizer = train_tokenizer(["a"], VocabularyConfig(vocab_size=280, special_tokens=special))
    return Reading(tokenizer, ChatTemplate(CHATML.template) if chat else None, max_length)


def prompt_of(made: OnlineObjective, values: Mapping[str, Any], read: Reading) -> Any:
    (example,) = made.encode(Row(dict(values), "f:1"), read)
    return made.prompt(example)


def test_a_prompt_keeps_its_row_for_the_rewards() -> None:
    read, values = reading(), {"prompt": "Hi \u00e4", "answer": 4, "more": {"x": [1.5, None]}}
    found = prompt_of(objective(), values, read)
    assert (found.messages, found.row, found.grammar) == (
        (Message("user", "Hi \u00e4"),),
        values,
        None,
    )
    assert list(found.ids) == read.tokenizer.encode("Hi \u00e4", special=False)
    two = [{"role": "user", "content": "<|im_end|>"}, {"role": "user", "content": "b"}]
    found = prompt_of(objective(), {"prompt": two}, read)
    assert list(found.ids) == read.tokenizer.encode("<|im_end|>\nb", special=False)
    chat = reading(chat=True)
    found = prompt_of(objective(), {"prompt": "Hi"}, chat)
    assert chat.template is not None
    assert list(found.ids) == chat.template.encode([Message("user", "Hi")], chat.tokenizer)
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    assert len(prompt_of(objective(), {"prompt": turns}, chat).messages) == 2
    with pytest.raises(InputError, match="no chat template for these messages"):
        prompt_of(objective(), {"prompt": turns}, read)


def test_a_prompt_leaves_room_for_its_answer() -> None:
    made = objective()
    assert len(prompt_of(made, {"prompt": "x" * 4}, reading(12)).ids) == 4
    with pytest.raises(InputError, match="has 5 tokens, and 4 are left of max_length 12 for"):
        prompt_of(made, {"prompt": "x" * 5}, reading(12))
    with pytest.raises(InputError, match="has 5 tokens, and 0 are left of max_length 7 for"):
        prompt_of(made, {"prompt": "x" * 5}, reading(7))


def test_answers_are_masked_to_the_rows_own_schema_where_that_is_asked_for() -> None:
    schema, made = {"type": "object"}, objective(masked=True)
    for given in (schema, json.dumps(schema)):
        found = prompt_of(made, {"prompt": "x", "schema": given}, reading())
        assert json.loads(found.grammar.source) == schema
        assert found.grammar.kind == Grammar.json_schema(schema).kind == "json_schema"
    for values in ({}, {"schema": 3}):
        with pytest.raises(InputError, match=r"schema is .*, not a JSON", check=about("schema")):
            prompt_of(made, {"prompt": "x", **values}, reading())
    assert prompt_of(objective(), {"prompt": "x", "schema": 3}, reading()).grammar is None


def test_a_step_draws_and_updates_as_its_settings_say() -> None:
    made = objective(temperature=0.7, stop=("END",), epochs=3, minibatches=2, kl=0.1)
    assert made.drawing == Drawing(8, 0.7, ("END",))
    assert (made.updates, made.needs_reference, made.measures) == (6, True, True)
    plain = objective()
    assert (plain.updates, plain.needs_reference, plain.measures) == (1, False, False)
    assert (plain.samples, plain.epochs, plain.minibatches, plain.temperature) == (8, 1, 1, 1.0)
    assert plain.learned() == {}
    assert plain.adapted({"a": 1.0}, {}, 3) == {"a": 1.0}
    assert plain.rollout_config == RolloutConfig()
    assert objective(rollouts={"ahead": 1}).rollout_config == RolloutConfig(ahead=1)
    default = GroupRelativePolicy(rewards=["x"])
    assert (default.max_tokens, default.masked, default.stop) == (256, False, ())
    assert PPO(rewards=["x"]).updates == 4
    with pytest.raises(InputError, match=r"^rollouts: ahead is 2", check=about("ahead")):
        objective(rollouts={"ahead": 2})


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ([], "rewards is empty"),
        ("arithmetic", "rewards is 'arithmetic', not a list of names"),
        ({"name": "arithmetic"}, "rewards is .*, not a list of names"),
        (3, "rewards is 3, not a list of names"),
    ],
)
def test_rewards_are_a_list_of_some(rewards: Any, said: str) -> None:
    with pytest.raises(InputError, match=said, check=about("rewards")):
        GroupRelativePolicy(rewards=rewards)


def test_a_reward_that_is_paid_for_is_better_low() -> None:
    rewards = ["finished", {"name": "finished", "weight": -1}, {"name": "theirs", "weight": 0}]
    found = {m.name: (m.higher_is_better, m.stage) for m in objective(rewards=rewards).metrics()}
    assert found["reward"] == found["reward_finished"] == found["reward_theirs"] == (True, "both")
    assert found["reward_finished-2"] == found["cut"] == (False, "both")
    assert found["answer_tokens"] == (None, "both")
    for name in ("loss", "prompts", "reward_spread", "flat_groups", "updates"):
        assert found[name] == (None, "step")
    own = {"file": "rewards.py", "function": "short"}
    assert "reward_short" in {metric.name for metric in objective(rewards=[own]).metrics()}


def test_a_cluster_is_named_by_a_text() -> None:
    assert RolloutConfig(ray="local").ray == "local"
    for wrong in ("", 3):
        with pytest.raises(InputError, match="ray is", check=about("ray")):
            RolloutConfig(ray=wrong)  # type: ignore[arg-type]
