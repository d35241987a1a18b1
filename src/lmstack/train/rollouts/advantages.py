"""Advantages: how much better a sample, or a token of it, was than what was expected.

PPO expects what its value head says of each token (generalized advantage estimation, Schulman et
al., 2016, arXiv:1506.02438):

    delta_t = r_t + gamma V(s_t+1) - V(s_t)
    A_t = delta_t + gamma lambda A_t+1

GRPO expects the mean of a prompt's samples (Shao et al., 2024, arXiv:2402.03300). Does not cover
where rewards come from, nor what a loss makes of an advantage (`surrogate`).

Legend: N tokens of all answers end to end, B answers, T tokens of the longest, G samples of a
prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

__all__ = [
    "explained_variance",
    "generalized_advantages",
    "group_advantages",
    "token_rewards",
    "whitened",
]

_NO_SPREAD = 1e-4  # of TRL's GRPOTrainer: samples that scored alike have no advantage
_FLAT = 1e-8  # of TRL's `masked_whiten`


def token_rewards(scores: Tensor, kl: Tensor, lengths: Sequence[int], coefficient: float) -> Tensor:
    """(N,): each token pays ``coefficient`` times its estimated KL to the reference, and the last
    of an answer is given the answer's score (Ziegler et al., 2019, arXiv:1909.08593).

    ``scores`` (B,); ``kl`` (N,), by `kl.kl_estimates`; ``lengths``: tokens of each answer, at
    least 1."""
    rewards = -coefficient * kl
    rewards[_ends(lengths, kl.device)] += scores.to(rewards.dtype)
    return rewards


def generalized_advantages(
    rewards: Tensor,
    values: Tensor,
    lengths: Sequence[int],
    *,
    discount: float = 1.0,
    decay: float = 0.95,
    after: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns (N,), the targets of the value head, of the ``rewards`` (N,) of
    answers of ``lengths`` tokens, at least 1 each.

    ``values`` (N,): V of the state before each token. ``discount``: gamma; ``decay``: lambda.
    ``after`` (B,): V of the state after each answer. An answer that came to its end has nothing
    after it, 0, as have all unless it is given; that of one which was cut off is what the value
    head expected to follow (Pardo et al., 2018, arXiv:1712.00378)."""
    counts = torch.tensor(list(lengths), device=values.device)
    mask = torch.arange(int(counts.max()), device=values.device) < counts[:, None]
    paid, expected = (_padded(x, lengths) for x in (rewards, values))
    following = torch.cat([expected[:, 1:], expected.new_zeros(len(counts), 1)], 1)
    if after is not None:
        following[torch.arange(len(counts), device=values.device), counts - 1] = after
    surprise = (paid + discount * following - expected) * mask
    advantages = torch.zeros_like(surprise)
    rest = surprise.new_zeros(len(counts))
    for place in reversed(range(surprise.shape[1])):
        rest = surprise[:, place] + discount * decay * rest
        advantages[:, place] = rest
    found = advantages[mask]
    return found, found + values


def group_advantages(scores: Tensor, scale: str) -> Tensor:
    """(P, G) of the ``scores`` (P, G) of G samples each of P prompts: what each is above the mean
    of its prompt's. ``scale``: ``group`` divides by the standard deviation of the prompt's
    samples (GRPO), which weights prompts that are nearly solved or nearly hopeless most; ``batch``
    by that of all; ``none`` does not (Dr. GRPO, Liu et al., 2025, arXiv:2503.20783)."""
    above = scores - scores.mean(1, keepdim=True)
    if scale == "none":
        return above
    spread = scores.std(1, keepdim=True) if scale == "group" else scores.std()
    return above / (spread + _NO_SPREAD)


def whitened(x: Tensor, *, shift: bool = True) -> Tensor:
    """``x`` (N,) with mean 0 and standard deviation 1 (N - 1 degrees of freedom), or with
    ``shift`` off the mean that it had. Only real tokens are given: there is no padding to mask."""
    mean = float(x.double().sum()) / max(len(x), 1)
    squares = float((x.double() - mean).square().sum())
    scaled: Tensor = (x - mean) / math.sqrt(squares / max(len(x) - 1, 1) + _FLAT)
    return scaled if shift else scaled + mean


def explained_variance(moments: Tensor) -> float:
    """1 - Var(returns - values) / Var(returns): 1 for a value head that knows what will come, 0
    for one that knows no more than the mean. 0 where all returns are alike. ``moments``: those of
    the values x and the returns y (`measures.moments`)."""
    n, x, y, xx, yy, xy = (float(value) for value in moments)
    if n == 0:
        return 0.0
    spread = yy / n - (y / n) ** 2
    rest = (xx - 2 * xy + yy) / n - ((y - x) / n) ** 2
    return 1 - rest / spread if spread > _FLAT else 0.0


def _ends(lengths: Sequence[int], device: torch.device) -> Tensor:
    """The place of each answer's last token among the N."""
    return torch.tensor(list(lengths), device=device).cumsum(0) - 1


def _padded(x: Tensor, lengths: Sequence[int]) -> Tensor:
    """(N,) as (B, T), zeros on the right."""
    return pad_sequence(list(x.split_with_sizes(list(lengths))), batch_first=True)
