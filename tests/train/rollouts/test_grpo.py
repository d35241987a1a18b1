"""GRPO's losses and gradients: TRL's on the same tensors, and by hand."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train import tiny
from torch import Tensor

from lmstack.core import InputError
from lmstack.model import ForwardContext
from lmstack.train.data.examples import IGNORED
from lmstack.train.objectives import objective_named
from lmstack.train.objectives.grpo import GroupRelativePolicy
from lmstack.train.rollouts.experience import Rollout, batch_of, passes_of
from lmstack.train.rollouts.protocol import RolloutSample

REWARDS = {"rewards": ["any"]}
AVERAGES = {"token": "dapo", "sequence": "grpo", "constant": "dr_grpo"}
LONGEST = 7


def their_loss(
    objective: GroupRelativePolicy, known: dict[str, Tensor], mask: Tensor, log_probs: Tensor
) -> Tensor:
    """`GRPOTrainer._compute_loss` of TRL 1.16 for padded (B, T) tensors."""
    from trl import GRPOTrainer

    high = objective.clip_low if objective.clip_high is None else objective.clip_high
    stub = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *_, **__: (log_probs, mask * 0.0, None),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level="token",
        beta=objective.kl,
        loss_type=AVERAGES[objective.average],
        epsilon_low=objective.clip_low,
        epsilon_high=high,
        use_vllm=True,
        vllm_importance_sampling_correction=objective.truncate is not None,
        _entropy_bonus_enabled=False,
        accelerator=SimpleNamespace(
            gather=lambda x: x, reduce=lambda x, reduction: x, num_processes=1
        ),
        args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        max_completion_length=objective.max_tokens,
        _metrics={"train": defaultdict(list)},
    )
    behind = known["before"] - known["sampled"]
    inputs = {
        "prompt_ids": torch.zeros(len(mask), 1, dtype=torch.int64),
        "prompt_mask": torch.ones(len(mask), 1),
        "completion_ids": torch.zeros(mask.shape, dtype=torch.int64),
        "completion_mask": mask,
        "advantages": known["advantages"][:, 0],
        "old_per_token_logps": known["before"],
        "ref_per_token_logps": known["reference"],
        "importance_sampling_ratio": behind.exp().clamp(max=objective.truncate or 1.0),
        "num_items_in_batch": mask.sum(),
    }
    found: Tensor = GRPOTrainer._compute_loss(stub, None, inputs)
    return found


@pytest.mark.parametrize("average", AVERAGES)
@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    kl=st.sampled_from([0.0, 0.3]),
    high=st.sampled_from([None, 0.5]),
    truncate=st.sampled_from([None, 1.1]),
)
def test_losses_and_gradients_are_those_of_trl(
    average: str, seed: int, kl: float, high: float | None, truncate: float | None
) -> None:
    objective = GroupRelativePolicy(
        **REWARDS, average=average, kl=kl, clip_high=high, truncate=truncate, max_tokens=LONGEST
    )
    rng = torch.Generator().manual_seed(seed)
    answers = 4
    lengths = torch.randint(1, LONGEST + 1, (answers,), generator=rng)
    mask = (torch.arange(LONGEST) < lengths[:, None]).double()

    def numbers(spread: float) -> Tensor:
        return torch.randn(answers, LONGEST, generator=rng, dtype=torch.float64) * spread

    now = numbers(1).requires_grad_()
    known = {name: now.detach() + numbers(0.3) for name in ("before", "sampled", "reference")}
    known["advantages"] = numbers(1)[:, :1].expand(answers, LONGEST)
    theirs = their_loss(objective, known, mask, now)
    (their_gradient,) = torch.autograd.grad(theirs, now)

    flat = now.detach()[mask > 0].requires_grad_()
    given_known = {name: values[mask > 0] for name, values in known.items()}
    if not kl:
        del given_known["reference"]
    losses, _ = objective.token_losses(flat, given_known)
    shares = torch.ones(answers, dtype=torch.float64) / (lengths if average == "sequence" else 1)
    rollouts = [made(int(n), 0.0) for n in lengths]
    ours = (losses * shares.repeat_interleave(lengths)).sum() / objective.weight(rollouts)
    ours.backward()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(flat.grad, their_gradient[mask > 0], rtol=1e-6, atol=1e-9)


def made(length: int, reward: float, group: int = 0, finish: str = "stop") -> Rollout:
    ids = tuple(range(5, 5 + length))
    sample = RolloutSample((), (3, 4), ids, (-1.0,) * length, "", finish)  # type: ignore[arg-type]
    return Rollout.of(sample, group, reward, {"any": reward})


@pytest.mark.parametrize("average", AVERAGES)
def test_the_loss_of_a_batch_is_that_of_its_tokens(average: str) -> None:
    """By log-probabilities of whole logits, and so are its gradients."""
    objective = GroupRelativePolicy(**REWARDS, average=average, max_tokens=LONGEST, temperature=0.7)
    rollouts = objective.judged([made(n, float(n > 2)) for n in (1, 4, 2, 6)], {})
    batch = batch_of(rollouts, objective.weight(rollouts))
    module = tiny.model("llama")
    loss = objective.loss(module, batch, ForwardContext())
    loss.total.backward()
    found = [p.grad.clone() for p in module.parameters() if p.grad is not None]
    module.zero_grad()

    total = torch.zeros((), dtype=torch.float64)
    for rollout in rollouts:
        ids = torch.tensor([[*rollout.sample.prompt_ids, *rollout.sample.ids]])
        logits = module(ids).logits[0] / objective.temperature
        every = logits.log_softmax(-1)[1:-1]
        own = every.gather(1, ids[0, 2:, None])[:, 0]
        ratio = (own - own.detach()).exp()
        behind = (own.detach() + 1.0).exp().clamp(max=2.0)
        each = -(behind * ratio * rollout.tokens["advantages"]).sum()
        total = total + each / (rollout.length if average == "sequence" else 1)
    torch.testing.assert_close(loss.total, total, rtol=1e-6, atol=1e-6)
    total.backward()
    wanted = [p.grad for p in module.parameters() if p.grad is not None]
    for one, two in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-7)


GROUPS = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(1, 6), min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@given(GROUPS, st.integers(1, 60))
def test_passes_that_share_prompts_hold_every_answer_once_and_no_more_than_asked(
    groups: list[tuple[int, list[int]]], most: int
) -> None:
    rollouts = [
        answer_to(prompt, length, number)
        for number, (prompt, lengths) in enumerate(groups)
        for length in lengths
    ]
    passes = passes_of(rollouts, most, share=True)
    assert sorted(id(r) for members in passes for r in members) == sorted(map(id, rollouts))
    for members in passes:
        batch = batch_of(members, 1.0, share=True)
        whole = batch_of(members, 1.0)
        known = [each.labels[each.labels != IGNORED].tolist() for each in (batch, whole)]
        assert known[0] == known[1] == [n for r in members for n in r.sample.ids]
        assert len(members) == 1 or batch.tokens <= most
        assert batch.tokens == batch.inputs["input_ids"].numel() <= whole.tokens


def answer_to(prompt: int, length: int, group: int) -> Rollout:
    rollout = made(length, 0.0, group)
    return replace(rollout, sample=replace(rollout.sample, prompt_ids=tuple(range(prompt))))


@pytest.mark.parametrize("name", ["grpo", "ppo"])
def test_a_prompt_read_once_for_all_its_answers_gives_the_same(name: str) -> None:
    own = {"kl_coefficient": 0.0} if name == "ppo" else {}
    objective = objective_named(name, {**REWARDS, "max_tokens": LONGEST, "samples": 3, **own})
    module = tiny.model("llama").double()
    objective.extend(module)
    rollouts = [answer_to(9, n, group) for group in (0, 1) for n in (2, 5, 5)]
    rollouts = [replace(r, reward=float(r.length > 2)) for r in rollouts]
    found = []
    for share in (False, True):
        batch = batch_of(rollouts, 1.0, share=share)
        assert ("continues" in batch.inputs) == share
        known = objective.measured(module, batch, ForwardContext()) if name == "ppo" else {}
        known = {key: value.detach() for key, value in known.items()}
        parts = {k: v.split_with_sizes([r.length for r in rollouts]) for k, v in known.items()}
        judged = objective.judged(
            [r.knowing(**{k: v[n] for k, v in parts.items()}) for n, r in enumerate(rollouts)], {}
        )
        loss = objective.loss(module, batch_of(judged, 1.0, share=share), ForwardContext())
        loss.total.backward()
        found.append([loss.total.detach(), *(p.grad for p in module.parameters())])
        module.zero_grad()
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-9)


def test_a_prompt_whose_answers_score_alike_teaches_nothing() -> None:
    rollouts = [
        made(2, reward, group) for group, reward in ((0, 1.0), (0, 1.0), (1, 0.0), (1, 1.0))
    ]
    kept = GroupRelativePolicy(**REWARDS).judged(rollouts, {})
    assert [float(each.tokens["advantages"].abs().sum()) > 0 for each in kept] == [
        *(False, False, True, True)
    ]
    dropped = GroupRelativePolicy(**REWARDS, flat="drop").judged(rollouts, {})
    assert [each.group for each in dropped] == [1, 1]


def test_answers_that_were_cut_may_be_left_out() -> None:
    rollouts = [made(2, 0.0, finish="length"), made(3, 1.0), made(3, 0.5)]
    objective = GroupRelativePolicy(**REWARDS, learn_cut=False)
    kept = objective.judged(rollouts, {})
    assert [each.length for each in kept] == [3, 3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": 1}, "samples is 1"),
        ({"rewards": []}, "rewards is empty"),
        ({"rewards": "arithmetic"}, "not a list"),
        ({"rollouts": {"weights": "q4"}}, "rollouts: weights is 'q4'"),
        ({"rollouts": {"ahed": 1}}, "has no setting 'ahed'"),
    ],
)
def test_what_cannot_be_is_said(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        GroupRelativePolicy.from_mapping({**REWARDS, **changes})


@pytest.mark.parametrize(
    ("epochs", "minibatches", "measures"),
    [(1, 1, False), (1, 2, True), (2, 1, True), (3, 2, True)],
)
def test_several_updates_need_the_policy_before_its_first_update(
    epochs: int, minibatches: int, measures: bool
) -> None:
    """Of one epoch of several minibatches the second is learned from by another policy, too."""
    objective = GroupRelativePolicy(**REWARDS, epochs=epochs, minibatches=minibatches)
    assert objective.measures == measures
