"""Samples as something to learn from: what is known of each, and the batches that they make.

A batch holds prompts and answers end to end. Its labels are the answers' tokens, at the places that
predict them; what is known of each token lies beside them, in the same order.

Legend: n tokens of an answer, M of all answers in a batch, B answers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lmstack.train.data.examples import IGNORED, Batch, varlen
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["Rollout", "batch_of", "is_worth_sharing", "passes_of", "sample_seed"]

SAMPLED = "sampled"
_WORTH = 0.8  # of the tokens


@dataclass(frozen=True, eq=False)
class Rollout:
    """A sample and what is known of it. ``group``: its prompt's place in the step, over all
    processes. ``scores``: by reward; ``reward``: their weighted sum. ``tokens``: numbers (n,) by
    name, float32; ``sampled``: its log-probabilities when it was drawn."""

    sample: RolloutSample
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
    def of(
        cls, sample: RolloutSample, group: int, reward: float, scores: Mapping[str, float]
    ) -> Rollout:
        sampled = torch.tensor(sample.logprobs)
        return cls(sample, group, reward, scores, {SAMPLED: sampled})


def batch_of(rollouts: Sequence[Rollout], weight: float, *, share: bool = False) -> Batch:
    """``labels`` (N,) as `Batch` has them. ``more``: each of `Rollout.tokens` as (M,); ``lengths``
    (B,) of the answers; ``rewards`` (B,). ``share``: prompts are read once, and their answers go
    on from there."""
    inputs, labels = _shared(rollouts) if share else _whole(rollouts)
    names = rollouts[0].tokens
    more = {name: torch.cat([rollout.tokens[name] for rollout in rollouts]) for name in names}
    more["lengths"] = torch.tensor([rollout.length for rollout in rollouts])
    more["rewards"] = torch.tensor([rollout.reward for rollout in rollouts])
    return Batch(inputs, torch.from_numpy(labels), weight, len(labels), more)


def _whole(rollouts: Sequence[Rollout]) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    samples = [rollout.sample for rollout in rollouts]
    inputs = varlen([np.array((*s.prompt_ids, *s.ids)) for s in samples])
    labels = [[IGNORED] * (len(s.prompt_ids) - 1) + [*s.ids, IGNORED] for s in samples]
    return inputs, np.concatenate([np.array(own) for own in labels])


def _shared(rollouts: Sequence[Rollout]) -> tuple[dict[str, Any], npt.NDArray[np.int64]]:
    """Prompts without their last tokens, and after them each answer behind that token."""
    prompts = {rollout.group: rollout.sample.prompt_ids for rollout in rollouts}
    before = [np.array(ids[:-1]) for ids in prompts.values()]
    samples = [rollout.sample for rollout in rollouts]
    inputs = varlen([*before, *(np.array((s.prompt_ids[-1], *s.ids)) for s in samples)])
    place = {group: n for n, group in enumerate(prompts)}
    inputs["continues"] = [place[rollout.group] for rollout in rollouts]
    labels = [np.full(sum(map(len, before)), IGNORED)]
    labels += [np.array((*s.ids, IGNORED)) for s in samples]
    return inputs, np.concatenate(labels)


def is_worth_sharing(rollouts: Sequence[Rollout]) -> bool:
    """Whether prompts that are read once save more tokens than attention in pieces costs."""
    prompts = {rollout.group: len(rollout.sample.prompt_ids) - 1 for rollout in rollouts}
    read = sum(prompts.values()) + sum(rollout.length + 1 for rollout in rollouts)
    return read < _WORTH * sum(map(_tokens, rollouts))


def passes_of(
    rollouts: Sequence[Rollout], micro_tokens: int, *, share: bool = False
) -> list[list[Rollout]]:
    """``rollouts`` in passes of at most ``micro_tokens`` tokens (a single one may have more), the
    shortest first: attention computes those of like length as one batch. ``share``: answers to one
    prompt stay together, which is counted once for those of a pass."""
    passes: list[list[Rollout]] = []
    room = 0
    for rollout in sorted(rollouts, key=_place if share else _tokens):  # stable: ties keep theirs
        tokens = _tokens(rollout)
        if share and passes and passes[-1][-1].group == rollout.group:
            tokens = rollout.length + 1
        if not passes or tokens > room:
            passes.append([])
            room, tokens = micro_tokens, _tokens(rollout)
        passes[-1].append(rollout)
        room -= tokens
    return passes


def sample_seed(seed: int, *place: int) -> int:
    """64 bits that follow from a run's ``seed`` and a ``place`` in it alone."""
    data = b"".join((number % 2**64).to_bytes(8, "little") for number in (seed, *place))
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _tokens(rollout: Rollout) -> int:
    return len(rollout.sample.prompt_ids) + rollout.length


def _place(rollout: Rollout) -> tuple[int, int, int]:
    return len(rollout.sample.prompt_ids), rollout.group, rollout.length
