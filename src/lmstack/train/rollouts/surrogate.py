"""What a policy, and its value head, learn from samples: the clipped losses of PPO and GRPO.

    ratio = pi(x) / pi_sampled(x)
    L_policy = - min(ratio A, clip(ratio, 1 - low, 1 + high) A)
    L_value = max((V - R)^2, (clip(V, V_sampled - c, V_sampled + c) - R)^2) / 2

Schulman et al., 2017 (arXiv:1707.06347); a high bound of its own is DAPO's (Yu et al., 2025,
arXiv:2503.14476); the clipped value loss is that of OpenAI's baselines (Huang et al., 2022, "The 37
implementation details of PPO"). Every token has a loss of its own; how they are averaged is the
objective's part.

Where the engine that sampled is not the policy (int8 rollouts, those of a step before), a token
counts min(pi_before(x) / pi_sampled(x), most) times: truncated importance sampling (Yao et al.,
2025, "Your efficient RL framework secretly brings you off-policy RL training").
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["clipped_policy_loss", "clipped_value_loss", "importance_weighted"]


def clipped_policy_loss(
    log_ratio: Tensor, advantages: Tensor, low: float, high: float | None = None
) -> tuple[Tensor, Tensor]:
    """The loss (N,) of each token, and whether it was clipped, so that nothing is learned of it
    (bool, no gradient).

    ``log_ratio``: log-probability now less that when it was sampled; any shape that goes with
    ``advantages``. ``high``: None: as ``low``."""
    above = 1 + (low if high is None else high)
    ratio = log_ratio.exp()
    plain = ratio * advantages
    clipped = ratio.clamp(1 - low, above) * advantages
    was_clipped = (clipped < plain).detach()
    return -torch.minimum(plain, clipped), was_clipped


def importance_weighted(
    log_probs: Tensor,
    before: Tensor,
    sampled: Tensor,
    advantages: Tensor,
    low: float,
    high: float | None,
    most: float | None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """`clipped_policy_loss` of tokens (N,) that were ``sampled`` with one log-probability and had
    another ``before`` the first update, and what is reported of each: ``clipped``, ``gap`` between
    the two, its ``importance`` and whether that was ``truncated``. ``most``: the highest
    importance; None: all count once."""
    behind = before - sampled
    weights = torch.ones_like(behind) if most is None else behind.exp().clamp(max=most)
    losses, clipped = clipped_policy_loss(log_probs - before, advantages, low, high)
    truncated = behind.exp() > (torch.inf if most is None else most)
    figures = {"clipped": clipped, "gap": behind.abs(), "importance": weights}
    return weights * losses, {**figures, "truncated": truncated}


def clipped_value_loss(
    values: Tensor, before: Tensor, returns: Tensor, most: float
) -> tuple[Tensor, Tensor]:
    """The loss (N,) of ``values`` that were ``before`` when the answers were sampled, for targets
    ``returns``, and whether the clipping, to ``most`` around ``before``, decided it."""
    near = torch.maximum(torch.minimum(values, before + most), before - most)
    plain, clipped = (values - returns).square(), (near - returns).square()
    return torch.maximum(plain, clipped) / 2, (clipped > plain).detach()
