"""Group relative policy optimization: a prompt's better answers are made likelier than its others.

    A_i = (r_i - mean of its prompt's r) / (their standard deviation)
    ratio_t = pi(x_t) / pi_before(x_t)
    L = - sum over tokens t of w_t min(ratio_t A_i, clip(ratio_t, 1 - low, 1 + high) A_i)
        + kl * k3(pi, reference)

Shao et al., 2024 (arXiv:2402.03300). ``average`` sequence is the paper's, each answer's tokens by
its length; token (DAPO: Yu et al., 2025, arXiv:2503.14476) gives every token of the update one
weight, so long answers count for more; constant (Dr. GRPO: Liu et al., 2025, arXiv:2503.20783)
divides by ``max_tokens``, so that an answer's length changes nothing. ``scale`` none is Dr. GRPO's
too: without the standard deviation, which weights prompts that are nearly solved or hopeless most.

``w_t`` is 1 where the engine that sampled is the policy; where it is not (int8 rollouts, those of a
step before), it is min(pi_before(x_t) / pi_sampled(x_t), truncate), truncated importance sampling
(Yao et al., 2025, "Your efficient RL framework secretly brings you off-policy RL training").

Not covered: the reward, and who draws the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmstack.core import InputError, allowed, check_range
from lmstack.model import ForwardContext, Transformer
from lmstack.train.cross_entropy import chunked_loss, distribution
from lmstack.train.data.examples import IGNORED, Batch
from lmstack.train.metric import TrainingMetric, watched
from lmstack.train.objectives.objective import Loss, read_of
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.rollouts.advantages import group_advantages
from lmstack.train.rollouts.experience import Rollout
from lmstack.train.rollouts.kl import kl_estimates
from lmstack.train.rollouts.surrogate import importance_weighted

__all__ = ["GroupRelativePolicy"]

_KNOWN = ("advantages", "sampled", "before", "reference")
_FIGURES = ("entropy", "clipped", "kl", "gap", "importance", "truncated")


@dataclass(frozen=True)
class GroupRelativePolicy(OnlineObjective):
    """``scale``: of advantages, see `group_advantages`. ``average``: of the tokens' losses.
    ``clip_low``, ``clip_high``: of the ratio, when a step makes several updates; the latter as the
    former where it is None (DAPO raises it, so that rare tokens may become likelier). ``kl``: the
    coefficient of the penalty for what the policy moves away from the model that the run began
    with.
    ``truncate``: the highest importance weight; None: no weights. ``flat``: groups whose answers
    have one reward say nothing of which is better; ``drop`` takes them out of the mean, where
    ``keep`` counts them as zero. ``learn_cut``: whether answers that were cut at ``max_tokens``
    are learned from."""

    scale: str = allowed("group", str, also=("group", "batch", "none"))
    average: str = allowed("token", str, also=("token", "sequence", "constant"))
    clip_low: float = allowed(0.2, float, 0, 1)
    clip_high: float | None = allowed(None, float, 0, 100)
    kl: float = allowed(0.0, float, 0, 100)
    truncate: float | None = 2.0
    flat: str = allowed("keep", str, also=("keep", "drop"))
    learn_cut: bool = allowed(True, bool)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truncate is not None:
            check_range("truncate", self.truncate, 1, 1e6)
        if self.samples < 2:
            raise InputError(
                "samples is 1, and an answer is compared with others to its prompt",
                hint="samples: 8",
                param="samples",
            )

    def metrics(self) -> Sequence[TrainingMetric]:
        return (*super().metrics(), *watched(*_FIGURES, "gap_largest", stage="step"))

    @property
    def needs_reference(self) -> bool:
        return self.kl > 0

    @property
    def measures(self) -> bool:
        return self.updates > 1  # else it is the policy whose loss is computed

    def measured(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Mapping[str, Any]:
        return {"before": self.log_probs(model, batch, context)}

    def judged(
        self, rollouts: Sequence[Rollout], learned: Mapping[str, float]
    ) -> Sequence[Rollout]:
        del learned
        groups: dict[int, list[Rollout]] = {}
        for rollout in rollouts:
            groups.setdefault(rollout.group, []).append(rollout)
        members = list(groups.values())
        rewards = torch.tensor([[r.reward for r in group] for group in members])
        advantages = group_advantages(rewards, self.scale)
        kept = []
        for group, row in zip(members, advantages, strict=True):
            is_flat = len({rollout.reward for rollout in group}) == 1
            if is_flat and self.flat == "drop":
                continue
            for rollout, advantage in zip(group, row, strict=True):
                if self.learn_cut or rollout.sample.finish != "length":
                    kept.append(rollout.knowing(advantages=advantage.expand(rollout.length)))
        return kept

    def teaches(self, rollout: Rollout) -> bool:
        return self.kl > 0 or bool(rollout.tokens["advantages"].any())

    def weight(self, rollouts: Sequence[Rollout]) -> float:
        if self.average == "token":
            return float(sum(rollout.length for rollout in rollouts))
        return float(len(rollouts) * (self.max_tokens if self.average == "constant" else 1))

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        places = (batch.labels != IGNORED).nonzero().flatten()
        labels, more = batch.labels[places], batch.more
        lengths = more["lengths"]
        share = (1 / lengths if self.average == "sequence" else torch.ones_like(lengths)).float()
        shares = share.repeat_interleave(lengths)
        gaps: list[Tensor] = []

        def loss_of(states: Tensor, at: slice) -> tuple[Tensor, Tensor]:
            found = distribution(self.scaled(model.logits(states, context)), labels[at])
            known = {name: more[name][at] for name in _KNOWN if name in more}
            losses, figures = self.token_losses(found.log_probs, known)
            gaps.append(figures["gap"].max())
            figures["entropy"] = found.entropy.detach()
            sums = torch.stack([figures[name].float().sum() for name in _FIGURES])
            return (losses * shares[at]).sum(), sums

        def readout(hidden: Tensor) -> Tensor:
            parameters = model.output_parameters()
            total, figures = chunked_loss(hidden[places], loss_of, parameters, len(_FIGURES))
            counts.update(zip(_FIGURES, figures, strict=True))
            return total

        counts: dict[str, Tensor] = {"answer_tokens": lengths.sum()}
        total = read_of(model, batch, context, readout)
        return Loss(total, counts=counts, largest={"gap_largest": torch.stack(gaps).max()})

    def token_losses(
        self, log_probs: Tensor, known: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (n,) of each token that now has ``log_probs``, and what is reported of it.

        ``known``: ``advantages``, ``sampled`` log-probabilities, and where they are needed those
        ``before`` the first update and of the ``reference``."""
        now = log_probs.detach()
        losses, figures = importance_weighted(
            log_probs,
            known.get("before", now),
            known["sampled"],
            known["advantages"],
            *(self.clip_low, self.clip_high, self.truncate),
        )
        kl = torch.zeros_like(now)
        if "reference" in known:
            estimate = kl_estimates(log_probs, known["reference"], "k3")
            losses, kl = losses + self.kl * estimate, estimate.detach()
        return losses, {**figures, "kl": kl}

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """Of a token, whatever the losses are averaged over."""
        tokens = float(counts["answer_tokens"]) or 1.0
        found = {name: float(counts[name]) / tokens for name in _FIGURES}
        if not self.needs_reference:
            del found["kl"]
        return {**means, **found}
