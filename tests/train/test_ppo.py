"""PPO: the loss and gradient of the plain computation, for every kind of decoder."""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any, Literal

import numpy as np
import pytest
import torch
from tests.errors import about
from tests.train import tiny
from torch import Tensor

from lmstack.core import InputError
from lmstack.model import (
    ForwardContext,
    LoraConfig,
    Transformer,
    add_adapter,
)
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.measures import moments
from lmstack.train.objectives.causal import next_token_batch
from lmstack.train.objectives.ppo import PPO
from lmstack.train.rollouts.experience import Rollout
from lmstack.train.rollouts.kl import adapted_coefficient
from lmstack.train.rollouts.protocol import RolloutSample
from lmstack.train.value_head import add_value_head, value_head_of

EXACT: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-11}
NEAR: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}  # Gemma's norms are in float32
SETTINGS = {
    "rewards": ["any"],
    "truncate": 1.5,
    "clip": 0.1,
    "value_clip": 0.15,
    "value_coefficient": 0.3,
    "entropy_coefficient": 0.05,
}


def batch_of(module: Transformer) -> Batch:
    """Three prompts with answers, which were sampled from a policy near this one."""
    rng = np.random.default_rng(5)
    examples = []
    for prompt, answer in ((3, 4), (5, 1), (1, 7)):
        ids = rng.integers(3, tiny.VOCAB, prompt + answer).astype(np.int32)
        labels = np.where(np.arange(len(ids)) < prompt, IGNORED, ids).astype(np.int32)
        examples.append(Example((ids,), labels))
    batch = next_token_batch(examples)
    torch.manual_seed(2)
    count = int(batch.weight)
    logprobs, values, _ = plain(module, batch, 1.3)
    before = logprobs + 0.2 * torch.randn(count)
    told = {
        "before": before,
        "sampled": before + 0.5 * torch.randn(count),
        "values": values + 0.2 * torch.randn(count),
        "advantages": torch.randn(count),
        "returns": torch.randn(count),
        "kl": torch.randn(count),
    }
    more = {k: v.detach().double() for k, v in told.items()}
    return dataclasses.replace(batch, more={**more, "lengths": torch.tensor([4, 1, 7])})


def plain(module: Transformer, batch: Batch, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities, values and entropies of whole logits, of one sequence at a time."""
    found: list[list[Tensor]] = [[], [], []]
    sequences = batch.inputs["input_ids"].split(batch.inputs["lengths"])
    for ids, labels in zip(sequences, batch.labels.split(batch.inputs["lengths"]), strict=True):
        output = module(ids[None])
        assert output.logits is not None
        distribution = (output.logits[0] / temperature).log_softmax(-1)
        head = value_head_of(module)
        assert head.bias is not None
        values = output.last_hidden_state[0] @ head.weight[0] + head.bias
        for place in (labels != IGNORED).nonzero().flatten().tolist():
            found[0].append(distribution[place, labels[place]])
            found[1].append(values[place])
            found[2].append(-(distribution[place].exp() @ distribution[place]))
    logprobs, values, entropies = (torch.stack(each) for each in found)
    return logprobs, values, entropies


def with_head(family: str, *, lora: bool = False) -> Transformer:
    module = tiny.model(family)
    if lora:
        add_adapter(module, LoraConfig(r=2))
    head = add_value_head(module)
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, 0.0, 0.3)
    return module


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_loss_and_gradients_are_those_of_whole_logits(family: str) -> None:
    module = with_head(family, lora=family == "qwen3")
    batch = batch_of(module)
    logprobs, values, entropies = plain(module, batch, 1.3)
    ratio = (logprobs - batch.more["before"]).exp()
    gain = batch.more["advantages"]
    behind = (batch.more["before"] - batch.more["sampled"]).exp()
    policy = -torch.minimum(ratio * gain, ratio.clip(0.9, 1.1) * gain) * behind.clip(max=1.5)
    before, returns = batch.more["values"], batch.more["returns"]
    near = before + (values - before).clip(-0.15, 0.15)
    value = torch.maximum((values - returns) ** 2, (near - returns) ** 2) / 2
    wanted = policy.sum() + 0.3 * value.sum() - 0.05 * entropies.sum()
    wanted.backward()
    gradients = tiny.gradients(module)
    module.zero_grad()
    limits = NEAR if family == "gemma2" else EXACT

    objective = PPO.from_mapping({**SETTINGS, "temperature": 1.3})
    found = objective.loss(module, batch, ForwardContext())
    torch.testing.assert_close(found.total, wanted.detach(), **limits)
    found.total.backward()
    again = tiny.gradients(module)
    assert again.keys() == gradients.keys()
    assert "value_head.weight" in again
    for name, gradient in again.items():
        torch.testing.assert_close(gradient, gradients[name], **limits, msg=name)
    figures = {
        "policy_loss": policy,
        "value_loss": value,
        "clipped": (ratio.clip(0.9, 1.1) * gain < ratio * gain).double(),
        "value_clipped": ((near - returns) ** 2 > (values - returns) ** 2).double(),
        "entropy": entropies,
        "approx_kl": ratio - 1 - ratio.log(),
        "importance": behind.clip(max=1.5),
        "truncated": (behind > 1.5).double(),
        "gap": behind.log().abs(),
    }
    count = batch.weight
    said = objective.reported({}, {k: v.double() for k, v in found.counts.items()})
    for name, each in figures.items():
        assert said[name] == pytest.approx(float(each.detach().mean()), rel=1e-5), name
    assert 0 < said["clipped"] < 1
    kl = float(batch.more["kl"].sum())
    assert [said["kl"], said["kl_answer"]] == pytest.approx([kl / count, kl / 3])
    errors = (returns - before).var() / returns.var()
    assert said["explained_variance"] == pytest.approx(1 - float(errors))
    assert float(found.largest["gap_largest"]) == float(behind.log().abs().max())


def test_an_unused_entropy_has_no_gradient_and_is_reported() -> None:
    module = with_head("llama")
    batch = batch_of(module)
    found = [
        PPO.from_mapping({**SETTINGS, "entropy_coefficient": x}).loss(
            module, batch, ForwardContext()
        )
        for x in (0.0, 0.05)
    ]
    assert float(found[0].counts["entropy"]) == pytest.approx(float(found[1].counts["entropy"]))
    difference = (found[0].total - found[1].total).detach()
    assert float(difference) == pytest.approx(0.05 * float(found[0].counts["entropy"]), rel=1e-5)


def test_the_first_update_is_not_clipped_and_its_gradient_is_the_policy_gradient() -> None:
    """Where nothing has changed since sampling, ratios are 1 and the loss is minus the mean
    advantage: REINFORCE with a baseline."""
    module = with_head("llama")
    batch = batch_of(module)
    logprobs, values, _ = plain(module, batch, 1.0)
    same = logprobs.detach()
    more = {**batch.more, "before": same, "sampled": same, "values": values.detach()}
    objective = PPO(rewards=["any"], value_coefficient=0.0)
    found = objective.loss(module, dataclasses.replace(batch, more=more), ForwardContext())
    assert float(found.counts["clipped"]) == float(found.counts["value_clipped"]) == 0
    assert float(found.counts["approx_kl"]) == pytest.approx(0, abs=1e-12)
    found.total.backward()
    gradients = tiny.gradients(module)
    module.zero_grad()
    (-(logprobs * batch.more["advantages"]).sum()).backward()
    for name, gradient in tiny.gradients(module).items():
        torch.testing.assert_close(gradients[name], gradient, **EXACT, msg=name)


def rollout(
    length: int, reward: float, finish: Literal["stop", "length"], **tokens: list[float]
) -> Rollout:
    sample = RolloutSample((), (1,), (2,) * length, (-1.0,) * length, "", finish)
    found = Rollout.of(sample, 0, reward, {"any": reward})
    return found.knowing(**{name: torch.tensor(x) for name, x in tokens.items()})


TWO = [
    rollout(
        2, 1.0, "stop",
        before=[-1.0, -2.0], reference=[-1.5, -1.0], values=[0.5, 0.25], following=[0.25, 9.0],
    ),
    rollout(
        3, -2.0, "length",
        before=[-1.0, -1.0, -1.0], reference=[-1.0, -3.0, -1.0],
        values=[0.0, 1.0, 2.0], following=[1.0, 2.0, 0.5],
    ),
]  # fmt: skip


@pytest.mark.parametrize("bootstrap", [False, True])
def test_an_answer_pays_for_its_divergence_and_is_rewarded_at_its_end(bootstrap: bool) -> None:
    """With a decay of 1 returns are what is left to be paid; one that was cut is not judged by its
    reward where `bootstrap` says that more would have followed."""
    objective = PPO(rewards=["any"], decay=1.0, bootstrap=bootstrap)
    found = objective.judged(TWO, {"kl_coefficient": 0.1})
    end = 0.5 if bootstrap else -2.0
    wanted = [[-0.05 + 0.1 + 1.0, 0.1 + 1.0], [-0.2 + end, -0.2 + end, end]]
    for each, returns in zip(found, wanted, strict=True):
        assert each.tokens["returns"].tolist() == pytest.approx(returns)
    assert found[0].tokens["kl"].tolist() == pytest.approx([0.5, -1.0])
    values = [0.5, 0.25, 0.0, 1.0, 2.0]
    raw = [r - v for r, v in zip([x for row in wanted for x in row], values, strict=True)]
    spread = statistics.stdev(raw)
    advantages = torch.cat([each.tokens["advantages"] for each in found]).tolist()
    wanted_ones = [(x - statistics.mean(raw)) / spread for x in raw]
    assert advantages == pytest.approx(wanted_ones, rel=1e-5)


def test_rewards_are_scaled_over_the_step_and_keep_their_mean() -> None:
    objective = PPO(rewards=["any"], decay=1.0, discount=0.0, whiten_rewards=True)
    found = objective.judged(TWO, {"kl_coefficient": 0.1})
    rewards = [-0.05, 1.1, 0.0, -0.2, -2.0]
    mean, spread = statistics.mean(rewards), statistics.stdev(rewards)
    returns = torch.cat([each.tokens["returns"] for each in found]).tolist()
    assert returns == pytest.approx([(r - mean) / spread + mean for r in rewards], rel=1e-5)


def test_the_coefficient_follows_the_divergence_only_where_it_has_a_target() -> None:
    values = {"kl_answer": 30.0}
    fixed, steered = PPO(rewards=["any"]), PPO(rewards=["any"], kl_target=6.0, kl_horizon=100)
    assert fixed.learned() == {"kl_coefficient": 0.05}
    assert fixed.adapted({"kl_coefficient": 0.7}, values, 50) == {"kl_coefficient": 0.7}
    assert steered.adapted({"kl_coefficient": 0.7}, values, 50) == {
        "kl_coefficient": pytest.approx(0.7 * 1.1)
    }
    free = PPO(rewards=["any"], kl_coefficient=0.0)
    assert not free.needs_reference
    assert free.learned() == {}
    with pytest.raises(InputError, match="kl_coefficient is 0", check=about("kl_coefficient")):
        PPO(rewards=["any"], kl_coefficient=0.0, kl_target=6.0)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_values_are_of_the_states_before_and_after_each_token(family: str) -> None:
    module = with_head(family)
    batch = batch_of(module)
    objective = PPO(rewards=["any"], temperature=1.3)
    with torch.no_grad():
        found = objective.measured(module, batch, ForwardContext())
        logprobs, values, _ = plain(module, batch, 1.3)
        torch.testing.assert_close(found["before"], logprobs, **EXACT)
        torch.testing.assert_close(found["values"], values, **EXACT)
    for start, stop in ((0, 4), (4, 5), (5, 12)):
        following = found["following"][start:stop]
        torch.testing.assert_close(following[:-1], found["values"][start + 1 : stop], **EXACT)
    ids = batch.inputs["input_ids"][:7]
    last = value_head_of(module)(module(ids[None]).last_hidden_state[0, -1])
    torch.testing.assert_close(found["following"][3], last.detach(), **EXACT)


def test_what_a_step_reports_is_of_a_token_and_kl_of_an_answer_too() -> None:
    made = PPO(rewards=["any"], kl_coefficient=0.1, kl_target=0.5, kl_horizon=100)
    names = [m.name for m in made.metrics() if m.stage == "step"]
    own = names[names.index("updates") + 1 : names.index("gap_largest")]
    counts = {name: torch.tensor(float(n)) for n, name in enumerate(own)}
    counts["tokens"], counts["kl"] = torch.tensor([8, 2]), torch.tensor(4.0)
    counts["values"] = moments(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 2.0]))
    found = made.reported({"loss": 3.0}, counts)
    assert found.pop("explained_variance") == pytest.approx(1)
    wanted = {name: n / 8 for n, name in enumerate(own)}
    assert found == {"loss": 3.0, **wanted, "kl": 0.5, "kl_answer": 2.0}
    counts["tokens"] = torch.tensor([0, 0])
    assert made.reported({}, counts)["kl_answer"] == 4.0
    alone = PPO(rewards=["any"], kl_coefficient=0.0)
    assert not {"kl", "kl_answer"} & alone.reported({}, counts).keys()
    assert (alone.needs_reference, alone.learned(), alone.measures) == (False, {}, True)
    (name,) = made.learned()
    assert (made.needs_reference, made.learned()) == (True, {name: 0.1})
    moved = made.adapted({name: 0.1}, {"kl_answer": 0.6}, 10)
    assert moved == {
        name: pytest.approx(adapted_coefficient(0.1, 0.6, target=0.5, samples=10, horizon=100))
    }
    assert PPO(rewards=["any"]).adapted({name: 0.2}, {}, 10) == {name: 0.2}
    with pytest.raises(InputError, match="kl_coefficient is 0", check=about("kl_coefficient")):
        PPO(rewards=["any"], kl_coefficient=0.0, kl_target=0.5)
    for value in (0.9, 1.1e6):
        with pytest.raises(InputError, match="truncate is", check=about("truncate")):
            PPO(rewards=["any"], truncate=value)
    assert PPO(rewards=["any"], truncate=1.0).truncate == 1.0
