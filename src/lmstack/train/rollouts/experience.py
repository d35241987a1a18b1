"""Samples as something to learn from: what is known of each, and the batches that they make.

A batch holds prompts and answers end to end. Its labels are the answers' tokens, at the places that
predict them; what is known of each token lies beside them, in the same order.

Legend: n tokens of an answer, M of all answers in a batch, B answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from lmstack.train.data.examples import IGNORED, Batch, varlen
from lmstack.train.rollouts.protocol import Sample

__all__ = ["Rollout", "batch_of", "passes_of", "sample_seed"]

SAMPLED = "sampled"


@dataclass(frozen=True, eq=False)
class Rollout:
    """A sample and what is known of it. ``group``: its prompt's place in the step, over all
    processes. ``scores``: by reward; ``reward``: their weighted sum. ``tokens``: numbers (n,) by
    name, float32; ``sampled``: its log-probabilities when it was drawn."""

    sample: Sample
    group: int
    reward: float
    scores: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """n."""
        return len(self.sample.ids)

    def knowing(self, **tokens: Tensor) -> Rollout:
        """With more known of each token."""
        return replace(self, tokens={**self.tokens, **tokens})

    @classmethod
    def of(cls, sample: Sample, group: int, reward: float, scores: Mapping[str, float]) -> Rollout:
        sampled = torch.tensor(sample.logprobs, dtype=torch.float32)
        return cls(sample, group, reward, scores, {SAMPLED: sampled})


def batch_of(rollouts: Sequence[Rollout], weight: float) -> Batch:
    """``labels`` (N,) as `Batch` has them. ``more``: each of `Rollout.tokens` as (M,); ``lengths``
    (B,) of the answers; ``rewards`` (B,)."""
    sequences, labels = [], []
    for rollout in rollouts:
        prompt, answer = rollout.sample.prompt_ids, rollout.sample.ids
        sequences.append(np.array((*prompt, *answer), np.int32))
        own = np.full(len(sequences[-1]), IGNORED, np.int64)
        own[len(prompt) - 1 : -1] = answer
        labels.append(own)
    names = rollouts[0].tokens
    more = {name: torch.cat([rollout.tokens[name] for rollout in rollouts]) for name in names}
    more["lengths"] = torch.tensor([rollout.length for rollout in rollouts])
    more["rewards"] = torch.tensor([rollout.reward for rollout in rollouts])
    tokens = sum(map(len, sequences))
    return Batch(varlen(sequences), torch.from_numpy(np.concatenate(labels)), weight, tokens, more)


def passes_of(rollouts: Sequence[Rollout], micro_tokens: int) -> list[list[Rollout]]:
    """``rollouts`` in passes of at most ``micro_tokens`` tokens (a single one may have more), the
    shortest first: attention computes those of like length as one batch."""
    passes: list[list[Rollout]] = []
    room = 0
    for rollout in sorted(rollouts, key=_tokens):  # stable: ties keep their order
        if not passes or _tokens(rollout) > room:
            passes.append([])
            room = micro_tokens
        passes[-1].append(rollout)
        room -= _tokens(rollout)
    return passes


def sample_seed(seed: int, *place: int) -> int:
    """64 bits that follow from a run's ``seed`` and a ``place`` in it alone."""
    data = b"".join((number % 2**64).to_bytes(8, "little") for number in (seed, *place))
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _tokens(rollout: Rollout) -> int:
    return len(rollout.sample.prompt_ids) + rollout.length
