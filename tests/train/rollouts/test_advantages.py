"""Advantages against float64 sums written from the papers, and against TRL's."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train.rollouts import oracle

from lmstack.train.measures import moments
from lmstack.train.rollouts.advantages import (
    explained_variance,
    generalized_advantages,
    group_advantages,
    token_rewards,
    whitened,
)
from lmstack.train.rollouts.kl import kl_estimates

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
numbers = st.floats(-9, 9, allow_nan=False, width=32)
answers = st.lists(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=5), min_size=1, max_size=4
)
shares = st.sampled_from([0.0, 0.3, 0.95, 1.0])


def by_definition(
    rewards: list[float], values: list[float], after: float, discount: float, decay: float
) -> list[float]:
    """Equation 16 of Schulman et al., 2016: the sum over l of (gamma lambda)^l delta_t+l."""
    following = [*values[1:], after]
    deltas = [
        r + discount * then - now for r, now, then in zip(rewards, values, following, strict=True)
    ]
    return [
        math.fsum((discount * decay) ** i * delta for i, delta in enumerate(deltas[place:]))
        for place in range(len(deltas))
    ]


@given(answers, st.data(), shares, shares)
@settings(max_examples=25, deadline=None)
def test_advantages_are_the_sums_of_the_paper(
    found: list[list[tuple[float, float]]], data: st.DataObject, discount: float, decay: float
) -> None:
    """Of answers that ended and of answers that were cut off, side by side."""
    after = [data.draw(st.one_of(st.just(0.0), numbers)) for _ in found]
    rewards, values = (
        torch.tensor([pair[i] for answer in found for pair in answer], dtype=torch.float64)
        for i in (0, 1)
    )
    advantages, returns = generalized_advantages(
        rewards,
        values,
        [len(answer) for answer in found],
        discount=discount,
        decay=decay,
        after=torch.tensor(after, dtype=torch.float64),
    )
    wanted = [
        value
        for answer, last in zip(found, after, strict=True)
        for value in by_definition(*map(list, zip(*answer, strict=True)), last, discount, decay)
    ]
    torch.testing.assert_close(advantages, torch.tensor(wanted, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(returns, advantages + values, **EXACT)


def test_with_a_decay_of_one_returns_are_what_was_paid_and_what_follows() -> None:
    """A wrong value of a state in between cancels out; what follows a cut is the only guess."""
    rewards, values = torch.tensor([0.0, 0.0, 2.0, -1.0, 0.5]), torch.randn(5)
    _, returns = generalized_advantages(rewards, values, [3, 2], decay=1.0)
    torch.testing.assert_close(returns, torch.tensor([2.0, 2.0, 2.0, -0.5, 0.5]))
    after = torch.tensor([0.0, 4.0])
    _, returns = generalized_advantages(rewards, values, [3, 2], decay=1.0, after=after)
    torch.testing.assert_close(returns, torch.tensor([2.0, 2.0, 2.0, 3.5, 4.5]))


@pytest.mark.parametrize("estimator", ["k1", "k2"])
def test_token_rewards_are_those_of_trl(estimator: str) -> None:
    kl = kl_estimates(oracle.given("old"), oracle.given("reference"), estimator)
    scores = torch.tensor(oracle.kept()["given"]["scores"], dtype=torch.float64)
    wanted = oracle.flat(oracle.kept()[estimator]["rewards"])
    torch.testing.assert_close(token_rewards(scores, kl, oracle.LENGTHS, 0.2), wanted, **EXACT)


def test_advantages_and_returns_are_those_of_trl() -> None:
    advantages, returns = generalized_advantages(
        oracle.flat(oracle.kept()["k2"]["rewards"]),
        oracle.given("values"),
        oracle.LENGTHS,
        discount=oracle.SETTINGS["gamma"],
        decay=oracle.SETTINGS["lam"],
    )
    torch.testing.assert_close(returns, oracle.flat(oracle.kept()["returns"]), **EXACT)
    wanted = oracle.flat(oracle.kept()["advantages"])
    torch.testing.assert_close(whitened(advantages), wanted, **EXACT)


@pytest.mark.parametrize("shift", [True, False])
def test_whitening_is_that_of_trl(shift: bool) -> None:
    wanted = oracle.flat(oracle.kept()["whitened"][str(shift).lower()])
    torch.testing.assert_close(whitened(oracle.given("values"), shift=shift), wanted, **EXACT)


def test_two_tokens_have_one_degree_of_freedom() -> None:
    found = whitened(torch.tensor([1.0, 3.0]))
    assert found.tolist() == pytest.approx([-(2**-0.5), 2**-0.5])


def test_one_token_and_equal_tokens_are_whitened_to_zero() -> None:
    for x in (torch.tensor([3.0]), torch.full((4,), -2.0)):
        assert torch.equal(whitened(x), torch.zeros_like(x))
        assert torch.equal(whitened(x, shift=False), x)


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_advantages_within_a_group(scale: str) -> None:
    rows = [[0.0, 1.0, 1.0, 0.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 3.0]]
    found = group_advantages(torch.tensor(rows, dtype=torch.float64), scale)
    spread = {"none": lambda _: 1.0, "group": statistics.stdev}.get(
        scale, lambda _: statistics.stdev([score for row in rows for score in row])
    )
    for row, advantages in zip(rows, found.tolist(), strict=True):
        extra = 0.0 if scale == "none" else 1e-4
        wanted = [(score - statistics.mean(row)) / (spread(row) + extra) for score in row]
        assert advantages == pytest.approx(wanted, abs=1e-12)
    assert found[1].abs().max() == 0  # nothing is learned of a prompt whose samples score alike


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=30))
@settings(max_examples=40, deadline=None)
def test_explained_variance_is_that_of_the_definition(pairs: list[tuple[float, float]]) -> None:
    values, returns = (torch.tensor(x, dtype=torch.float64) for x in zip(*pairs, strict=True))
    spread = statistics.pvariance(returns.tolist())
    found = explained_variance(moments(values, returns))
    if spread < 1e-8:
        assert found == pytest.approx(0, abs=1e-12) or spread > 0
    else:
        wanted = 1 - statistics.pvariance((returns - values).tolist()) / spread
        assert found == pytest.approx(wanted, rel=1e-6, abs=1e-6)


def test_a_perfect_critic_explains_all_and_a_constant_one_nothing() -> None:
    returns = torch.tensor([1.0, -2.0, 4.0])
    assert explained_variance(moments(returns, returns)) == pytest.approx(1)
    assert explained_variance(moments(torch.full((3,), 7.0), returns)) == pytest.approx(0)
    assert explained_variance(torch.zeros(6)) == 0
