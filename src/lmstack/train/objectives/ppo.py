"""Proximal policy optimization: a policy learns from the rewards of its answers, token by token.

    r_t = - beta k_t + [t is the last] reward,   k_t: an estimate of log pi(x_t) - log ref(x_t)
    A_t: generalized advantages of r and V, whitened over the step;   R_t = A_t + V_t, unwhitened
    L = L_policy + value_coefficient L_value - entropy_coefficient H

A value head V beside the language model's own head expects what the rest of an answer will bring.
L_policy and L_value are clipped (`surrogate`), H is the entropy of the next token; each is the mean
over the tokens of the answers of an update. Schulman et al., 2017 (arXiv:1707.06347), with the
penalty in the reward, and its coefficient beta that follows the divergence, of Ziegler et al., 2019
(arXiv:1909.08593).

Legend: M tokens of the answers of a batch, n of a chunk of them or of one answer, B answers, D
width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lmstack.core import InputError, allowed, check_range
from lmstack.model import ForwardContext, Transformer
from lmstack.train.cross_entropy import chunked_log_probs, chunked_loss, distribution
from lmstack.train.data.examples import IGNORED, Batch
from lmstack.train.measures import moments
from lmstack.train.metric import TrainingMetric, watched
from lmstack.train.objectives.objective import Loss, read_of
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.rollouts.advantages import (
    explained_variance,
    generalized_advantages,
    token_rewards,
    whitened,
)
from lmstack.train.rollouts.experience import SAMPLED, Rollout
from lmstack.train.rollouts.kl import ESTIMATORS, adapted_coefficient, kl_estimates
from lmstack.train.rollouts.surrogate import clipped_value_loss, importance_weighted
from lmstack.train.value_head import add_value_head, value_head_of

__all__ = ["PPO"]

_FIGURES = (
    *("policy_loss", "value_loss", "entropy", "clipped", "value_clipped", "approx_kl"),
    *("gap", "importance", "truncated"),
)
_COEFFICIENT = "kl_coefficient"


@dataclass(frozen=True)
class PPO(OnlineObjective):
    """``epochs`` and ``minibatches``: updates made of the answers of a step. ``clip``: of the
    ratio, and ``value_clip`` of the change of V. ``discount`` (gamma) and ``decay`` (lambda): of
    `generalized_advantages`. ``kl_coefficient``: beta, as it begins; 0: no penalty and no
    reference. ``kl_target``: the divergence in nats an answer that it is steered to over
    ``kl_horizon`` samples; None: it stays. ``kl``: its estimator. ``whiten_rewards``: by their
    standard deviation over the step. ``bootstrap``: an answer that is cut at ``max_tokens`` is not
    given its reward but what V expects to follow. ``truncate``: see `importance_weighted`."""

    samples: int = allowed(1, int, 1, 1 << 16)
    epochs: int = allowed(4, int, 1, 1000)
    clip: float = allowed(0.2, float, 0, 1, above=True)
    value_clip: float = allowed(0.2, float, 0, 1e6, above=True)
    value_coefficient: float = allowed(0.1, float, 0, 1e3)
    entropy_coefficient: float = allowed(0.0, float, 0, 1e3)
    discount: float = allowed(1.0, float, 0, 1)
    decay: float = allowed(0.95, float, 0, 1)
    kl: str = allowed("k1", str, also=ESTIMATORS)
    kl_coefficient: float = allowed(0.05, float, 0, 1e3)
    kl_target: float | None = allowed(None, float, 0, 1e6, above=True)
    kl_horizon: float = allowed(10000, float, 1, 1e9)
    whiten_rewards: bool = allowed(False, bool)
    bootstrap: bool = allowed(False, bool)
    truncate: float | None = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truncate is not None:
            check_range("truncate", self.truncate, 1, 1e6)
        if self.kl_target is not None and not self.kl_coefficient:
            raise InputError(
                "kl_coefficient is 0, and a share of it stays 0 whatever kl_target is",
                hint="kl_coefficient: 0.05, or leave out kl_target",
                param="kl_coefficient",
            )

    def metrics(self) -> Sequence[TrainingMetric]:
        more = ("gap_largest", "explained_variance", "kl", "kl_answer", _COEFFICIENT)
        return (*super().metrics(), *watched(*_FIGURES, *more, stage="step"))

    # -- before the first update ---------------------------------------------------------------

    def extend(self, module: Transformer) -> None:
        add_value_head(module)

    def learned(self) -> dict[str, float]:
        return {_COEFFICIENT: self.kl_coefficient} if self.needs_reference else {}

    @property
    def needs_reference(self) -> bool:
        return self.kl_coefficient > 0

    @property
    def measures(self) -> bool:
        return True

    def measured(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Mapping[str, Any]:
        """Log-probabilities ``before``, and the values of the state before each token and of the
        one ``following`` it."""
        head, places = value_head_of(model), _places(batch)
        found: dict[str, Tensor] = {}

        def readout(hidden: Tensor) -> Tensor:
            found["values"] = head(hidden[places])
            found["following"] = head(hidden[places + 1])
            return chunked_log_probs(
                hidden[places],
                batch.labels[places],
                lambda states: self.scaled(model.logits(states, context)),
                model.output_parameters(),
            )

        return {"before": read_of(model, batch, context, readout), **found}

    def judged(
        self, rollouts: Sequence[Rollout], learned: Mapping[str, float]
    ) -> Sequence[Rollout]:
        """With ``kl``, ``advantages`` and ``returns``; computed in float64."""
        lengths = [rollout.length for rollout in rollouts]
        known = {
            name: torch.cat([rollout.tokens[name] for rollout in rollouts]).double()
            for name in rollouts[0].tokens
        }
        cut = torch.tensor([self.bootstrap and r.sample.finish == "length" for r in rollouts])
        paid = torch.tensor([rollout.reward for rollout in rollouts], dtype=torch.float64)
        kl = torch.zeros_like(known["before"])
        if self.needs_reference:
            kl = kl_estimates(known["before"], known["reference"], self.kl)
        coefficient = learned.get(_COEFFICIENT, 0.0)
        rewards = token_rewards(paid * ~cut, kl, lengths, coefficient)
        if self.whiten_rewards:
            rewards = whitened(rewards, shift=False)
        last = torch.tensor(lengths).cumsum(0) - 1
        advantages, returns = generalized_advantages(
            rewards,
            known["values"],
            lengths,
            discount=self.discount,
            decay=self.decay,
            after=known["following"][last] * cut,
        )
        told = {"kl": kl, "advantages": whitened(advantages), "returns": returns}
        parts = {name: x.float().split_with_sizes(lengths) for name, x in told.items()}
        return [
            rollout.knowing(**{name: part[place] for name, part in parts.items()})
            for place, rollout in enumerate(rollouts)
        ]

    def weight(self, rollouts: Sequence[Rollout]) -> float:
        return float(sum(rollout.length for rollout in rollouts))

    # -- an update -----------------------------------------------------------------------------

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        places, head = _places(batch), value_head_of(model)
        labels, more = batch.labels[places], batch.more
        told = {name: more[name] for name in (SAMPLED, "before", "values", "advantages", "returns")}
        counts: dict[str, Tensor] = {}

        def loss_of(states: Tensor, at: slice) -> tuple[Tensor, Tensor]:
            logits = self.scaled(model.logits(states, context))
            here = {name: values[at] for name, values in told.items()}
            losses, figures = self.token_losses(logits, head(states), labels[at], here)
            return losses.sum(), torch.stack([figures[n].detach().float().sum() for n in _FIGURES])

        def readout(hidden: Tensor) -> Tensor:
            parameters = [*model.output_parameters(), *head.parameters()]
            total, figures = chunked_loss(hidden[places], loss_of, parameters, len(_FIGURES))
            counts.update(zip(_FIGURES, figures, strict=True))
            return total

        total = read_of(model, batch, context, readout)
        counts["tokens"] = torch.tensor([len(places), len(more["lengths"])])
        counts["kl"] = more["kl"].double().sum()
        counts["values"] = moments(more["values"], more["returns"])
        gaps = (more["before"] - more[SAMPLED]).abs()
        return Loss(total, counts=counts, largest={"gap_largest": gaps.max()})

    def token_losses(
        self, logits: Tensor, values: Tensor, labels: Tensor, told: Mapping[str, Tensor]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss (n,) of tokens ``labels`` with ``logits`` (n, V) and ``values`` (n,), and what
        is reported of each. ``told``: log-probabilities when they were ``sampled`` and ``before``
        the first update, the ``values`` then, ``advantages`` and ``returns``."""
        log_probs, entropy, _ = distribution(logits, labels)
        if not self.entropy_coefficient:
            entropy = entropy.detach()
        policy, figures = importance_weighted(
            log_probs, told["before"], told[SAMPLED], told["advantages"], self.clip, None,
            self.truncate,
        )  # fmt: skip
        value, value_clipped = clipped_value_loss(
            values, told["values"], told["returns"], self.value_clip
        )
        losses = policy + self.value_coefficient * value - self.entropy_coefficient * entropy
        figures |= {"policy_loss": policy, "value_loss": value, "entropy": entropy}
        drift = kl_estimates(told["before"], log_probs, "k3")
        return losses, {**figures, "value_clipped": value_clipped, "approx_kl": drift}

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """``kl``: of a token to the reference, and ``kl_answer`` of a whole answer, before the
        step; ``approx_kl``: of a token, of the policy now to that before the step."""
        tokens, answers = (float(count) or 1.0 for count in counts["tokens"])
        found = {name: float(counts[name]) / tokens for name in _FIGURES}
        found["explained_variance"] = explained_variance(counts["values"])
        if self.needs_reference:
            kl = float(counts["kl"])
            found |= {"kl": kl / tokens, "kl_answer": kl / answers}
        return {**means, **found}

    def adapted(
        self, learned: Mapping[str, float], values: Mapping[str, float], samples: int
    ) -> dict[str, float]:
        if self.kl_target is None:
            return dict(learned)
        coefficient = adapted_coefficient(
            learned[_COEFFICIENT],
            values["kl_answer"],
            target=self.kl_target,
            samples=samples,
            horizon=self.kl_horizon,
        )
        return {_COEFFICIENT: coefficient}


def _places(batch: Batch) -> Tensor:
    """Of the answers' tokens: where each is predicted."""
    return (batch.labels != IGNORED).nonzero().flatten()
