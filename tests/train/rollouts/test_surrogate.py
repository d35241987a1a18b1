"""The clipped losses: their values and gradients by hand, and TRL's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.rollouts import oracle

from lmstack.train.rollouts.surrogate import (
    clipped_policy_loss,
    clipped_value_loss,
    importance_weighted,
)

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
LOW, HIGH = 0.2, 0.4


@given(
    st.floats(-2, 2).filter(
        lambda r: min(abs(math.exp(r) - b) for b in (1 - LOW, 1 + HIGH)) > 1e-6
    ),
    st.floats(-3, 3),
)
def test_policy_loss_by_hand(log_ratio: float, advantage: float) -> None:
    """Only what would take a ratio further out of its range is cut."""
    x = torch.tensor([log_ratio], dtype=torch.float64, requires_grad=True)
    loss, clipped = clipped_policy_loss(x, torch.tensor([advantage]).double(), LOW, HIGH)
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    ratio = math.exp(log_ratio)
    advantage = float(torch.tensor(advantage))
    is_out = ratio > 1 + HIGH if advantage > 0 else ratio < 1 - LOW and advantage < 0
    bound = 1 + HIGH if advantage > 0 else 1 - LOW
    assert bool(clipped) == is_out
    assert float(loss.detach()) == pytest.approx(
        -advantage * (bound if is_out else ratio), abs=1e-12
    )
    assert float(gradient) == pytest.approx(0 if is_out else -advantage * ratio, abs=1e-12)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-2, 2))
def test_value_loss_by_hand(value: float, before: float, target: float) -> None:
    """The worse of what is said and of the nearest that may be said counts."""
    x = torch.tensor([value], dtype=torch.float64, requires_grad=True)
    rest = (torch.tensor([y], dtype=torch.float64) for y in (before, target))
    loss, clipped = clipped_value_loss(x, *rest, 0.5)
    near = min(max(value, before - 0.5), before + 0.5)
    wanted = max((value - target) ** 2, (near - target) ** 2) / 2
    assert float(loss.detach()) == pytest.approx(wanted, abs=1e-12)
    if abs((value - target) ** 2 - (near - target) ** 2) > 1e-9:
        (gradient,) = torch.autograd.grad(loss.sum(), x)
        is_cut = (near - target) ** 2 > (value - target) ** 2
        assert bool(clipped) == is_cut
        assert float(gradient) == pytest.approx(0 if is_cut else value - target, abs=1e-12)


def test_losses_and_gradients_are_those_of_trl() -> None:
    wanted, used = oracle.kept()["losses"], oracle.SETTINGS
    now, values = oracle.given("logprobs"), oracle.given("vpreds")
    for x in (now, values):
        x.requires_grad_()
    advantages = oracle.flat(oracle.kept()["advantages"])
    policy, cut = clipped_policy_loss(now - oracle.given("old"), advantages, used["cliprange"])
    returns = oracle.flat(oracle.kept()["returns"])
    range_ = used["cliprange_value"]
    value, value_cut = clipped_value_loss(values, oracle.given("values"), returns, range_)
    mean = policy.mean(), used["vf_coef"] * value.mean()
    (mean[0] + mean[1]).backward()
    for name, found in (
        *(("policy", mean[0]), ("value", mean[1])),
        *(("policy_clipped", cut.double().mean()), ("value_clipped", value_cut.double().mean())),
    ):
        # TRL counts clipped tokens in float32.
        assert float(found.detach()) == pytest.approx(
            wanted[name], rel=1e-6 if "cl" in name else 1e-12
        )
    for name, x in (("logprobs", now), ("vpreds", values)):
        assert x.grad is not None
        torch.testing.assert_close(x.grad, oracle.flat(wanted[f"{name}_gradient"]), **EXACT)
    assert 0 < float(cut.double().mean()) < 1
    assert 0 < float(value_cut.double().mean()) < 1


@pytest.mark.parametrize("most", [2.0, None])
def test_tokens_count_as_likely_as_the_policy_before_finds_them_up_to_a_bound(
    most: float | None,
) -> None:
    """Of three, sampled half as likely, as likely, and three times less likely than before."""
    before = torch.tensor([2.0, 1.0, 3.0], dtype=torch.float64).log() - 5
    sampled = torch.tensor([4.0, 1.0, 1.0], dtype=torch.float64).log() - 5
    now, paid = before + torch.tensor([0.0, 1.0, -1.0]), torch.tensor([1.0, 1.0, -1.0]).double()
    losses, figures = importance_weighted(now, before, sampled, paid, 0.2, None, most)
    weights = [0.5, 1.0, 2.0] if most else [1.0, 1.0, 1.0]
    assert figures["importance"].tolist() == pytest.approx(weights)
    assert figures["truncated"].tolist() == [False, False, most is not None]
    assert figures["clipped"].tolist() == [False, True, True]
    gaps = [math.log(2), 0.0, math.log(3)]
    assert figures["gap"].tolist() == pytest.approx(gaps)
    plain = [-1.0, -1.2, 0.8]
    assert losses.tolist() == pytest.approx([w * x for w, x in zip(weights, plain, strict=True)])
    wide, _ = importance_weighted(now, before, sampled, paid, 0.2, 9.0, most)
    assert wide[1].item() == pytest.approx(-math.e)
