"""The estimators of the KL divergence: their formulas, their mean over what is sampled, TRL's."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.train.rollouts import oracle

from lmstack.train.rollouts.kl import ESTIMATORS, adapted_coefficient, kl_estimates

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
FORMULAS = {
    "k1": lambda r: r,
    "k2": lambda r: r * r / 2,
    "k3": lambda r: math.exp(-r) - 1 + r,
}


@given(st.floats(-20, 0), st.floats(-20, 0), st.sampled_from(ESTIMATORS))
def test_the_formulas(policy: float, reference: float, estimator: str) -> None:
    given = (torch.tensor([x], dtype=torch.float64) for x in (policy, reference))
    found = float(kl_estimates(*given, estimator))
    assert found == pytest.approx(FORMULAS[estimator](policy - reference), rel=1e-9, abs=1e-12)
    assert estimator == "k1" or found >= 0


def test_k3_keeps_a_small_difference_in_float32() -> None:
    """e^-r - 1 + r computed as it is written has nothing left of r = 1e-4."""
    near = torch.tensor([-1.0]), torch.tensor([-1.0 - 2**-13])
    assert float(kl_estimates(*near, "k3")) == pytest.approx(2**-27, rel=1e-2)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_their_means_under_the_policy(estimator: str) -> None:
    """Over the whole vocabulary k1 and k3 have the divergence as their mean; k2 is near it where
    the two are near each other, and its gradient has that of the divergence as its mean."""
    torch.manual_seed(0)
    logits = torch.randn(7, dtype=torch.float64)
    away = 0.05 * torch.randn(7, dtype=torch.float64)
    logits.requires_grad_()
    policy, reference = logits.log_softmax(0), (logits.detach() + away).log_softmax(0)
    exact = (policy.exp() * (policy - reference)).sum()
    mean = (policy.detach().exp() * kl_estimates(policy, reference, estimator)).sum()
    torch.testing.assert_close(mean, exact, rtol=0.1 if estimator == "k2" else 1e-9, atol=1e-12)
    if estimator == "k2":
        wanted, found = (
            torch.autograd.grad(x, logits, retain_graph=True)[0] for x in (exact, mean)
        )
        torch.testing.assert_close(found, wanted, **EXACT)


@pytest.mark.parametrize("estimator", ["k1", "k2"])
def test_estimates_are_those_of_trl(estimator: str) -> None:
    found = kl_estimates(oracle.given("old"), oracle.given("reference"), estimator)
    torch.testing.assert_close(found, oracle.flat(oracle.kept()[estimator]["kl"]), **EXACT)


def test_the_coefficient_moves_as_that_of_trl() -> None:
    coefficient = 0.2
    for kl, samples, wanted in oracle.kept()["coefficients"]:
        coefficient = adapted_coefficient(coefficient, kl, target=6, samples=samples, horizon=10000)
        assert coefficient == pytest.approx(wanted, rel=1e-12)
