"""The KL divergence of a policy from its reference, estimated from what the policy sampled.

    r = log pi(x) - log ref(x) of a token x that pi sampled
    k1 = r                    unbiased, of high variance, and often negative
    k2 = r^2 / 2              biased, of low variance; its gradient is that of KL(pi || ref)
    k3 = e^-r - 1 + r         unbiased, of low variance, never negative

Schulman, 2020 (joschu.net/blog/kl-approx.html). The coefficient of the penalty can follow the
divergence that it brings about (Ziegler et al., 2019, arXiv:1909.08593, section 2.2). Does not
cover the exact divergence over the whole vocabulary, which needs the logits of both models.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["ESTIMATORS", "adapted_coefficient", "kl_estimates"]

ESTIMATORS = ("k1", "k2", "k3")
_MOST = 0.2  # of the proportional error, as Ziegler et al. clip it


def kl_estimates(policy: Tensor, reference: Tensor, estimator: str) -> Tensor:
    """An estimate for each token of KL(policy || reference), from the log-probabilities (N,) that
    both give to what the policy sampled. ``estimator``: one of `ESTIMATORS`."""
    assert estimator in ESTIMATORS
    ratio = policy - reference
    if estimator == "k1":
        return ratio
    if estimator == "k2":
        return ratio.square() / 2
    return (-ratio).expm1() + ratio


def adapted_coefficient(
    coefficient: float, kl: float, *, target: float, samples: int, horizon: float
) -> float:
    """The coefficient after a step in which ``samples`` answers diverged by ``kl`` on average,
    each the sum over its tokens: higher where that is over ``target``, lower where under.
    ``horizon``: samples in which an error of a fifth or more changes it by about that fifth."""
    error = min(max(kl / target - 1, -_MOST), _MOST)
    return coefficient * (1 + error * samples / horizon)
