"""A reward model: one score for an answer, learned from pairs of answers or from ratings.

    pairs     L = - log s(r_chosen - r_rejected - m) + c (r_chosen + r_rejected)^2
    ratings   L = (r - (y - mean) / deviation)^2

r: the score of a conversation that ends with an answer; s: the sigmoid; m: the row's ``margin``,
0 where it has none; c: ``center``; y: a rating. Bradley and Terry 1952 as Ouyang et al. 2022
(arXiv:2203.02155) train it, with the margin of Touvron et al. 2023 (arXiv:2307.09288) and the
centring of Eisenstein et al. 2023 (arXiv:2312.09244); equal to TRL's RewardTrainer. Only
differences of scores mean anything after pairs; after ratings a score counts standard deviations
from the mean rating of the data.

A decoder is read at the last token of its chat template, an encoder as for sequence classification;
see `encode_exchange` for what is read. Does not cover a value for each token, as PPO needs it.

Legend: R rows, S conversations of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import InputError, Message, UnsupportedError, allowed
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.text.exchange import encode_exchange
from lmstack.train.data.examples import Batch, Example, Ints, by_length
from lmstack.train.data.formats import preference_of, ratings_of
from lmstack.train.data.pairs import pair_inputs, pairs_of, segments_of
from lmstack.train.data.rows import Row
from lmstack.train.measures import correlation, moments
from lmstack.train.metric import ACCURACY, LOSS, TrainingMetric, rising, watched
from lmstack.train.objectives.objective import (
    AllRows,
    Loss,
    Objective,
    Reading,
    logits_of,
    one_score,
)

__all__ = ["RewardModelling", "bradley_terry"]

PAIRS, RATINGS = "pairs", "ratings"


@dataclass(frozen=True)
class RewardModelling(Objective):
    """``rows``: ``pairs`` or ``ratings``; unless given, what the first row is. ``center``: weight
    of keeping the two scores of a pair around 0. ``mean`` and ``deviation`` of ratings; unless
    given, those of the data."""

    rows: str | None = allowed(None, str, also=(PAIRS, RATINGS))
    center: float = allowed(0.0, float, 0, 1e3)
    mean: float | None = allowed(None, float, -1e9, 1e9)
    deviation: float | None = allowed(None, float, 0, 1e9, above=True)

    reads: ClassVar[tuple[str, ...]] = ("preference", "rated")
    kind: ClassVar[Kind | None] = "reward"
    heads: ClassVar[tuple[Head, ...]] = ("sequence",)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        if base.module.config.causal and base.template is None:
            raise UnsupportedError(
                f"{base.name} has no chat template, and answers are read through one",
                hint="a chat model, or an encoder such as all-minilm-l6-v2",
                param="base",
            )
        kind = self.rows or _kind_of(rows())
        if kind == PAIRS or (self.mean is not None and self.deviation is not None):
            return self.replace(rows=kind)
        ratings = np.array([y for row in rows() for y in _known_ratings(row)])
        different = len(set(ratings.tolist()))
        if different < 2:
            raise InputError(
                f"{len(ratings)} answers are rated, with {different} different ratings",
                hint="rows need a rating, and there must be two different ones",
                param="data",
            )
        mean = float(ratings.mean()) if self.mean is None else self.mean
        deviation = float(ratings.std()) if self.deviation is None else self.deviation
        return self.replace(rows=kind, mean=mean, deviation=deviation)

    def metrics(self) -> Sequence[TrainingMetric]:
        """``reward``: the mean of all scores, which may lie anywhere."""
        of_pairs = (ACCURACY, *rising("margin"), *watched("reward"))
        found = {PAIRS: of_pairs, RATINGS: rising("pearson")}
        return (LOSS, *(found[self.rows] if self.rows else (*of_pairs, *rising("pearson"))))

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        return one_score(base)

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        """The chosen one first; segments of conversation k are sequences 2k and 2k + 1. Labels:
        the margin, or the rating."""
        if ("chosen" in row.values) != (self.rows == PAIRS):
            has = "a chosen answer" if "chosen" in row.values else "none that was chosen"
            raise InputError(
                f"the row has {has}, and the others are {self.rows}",
                hint="train on one kind of rows; rows=pairs or rows=ratings of the objective",
            )
        if self.rows == RATINGS:
            for each in ratings_of(row):
                yield _example([[*each.prompt, *each.answer]], each.rating, reading)
        else:
            pair = preference_of(row)
            both = [[*pair.prompt, *each] for each in (pair.chosen, pair.rejected)]
            yield _example(both, pair.margin or 0.0, reading)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """Conversations by their length; ``more["places"]`` (S,): where each row's stand, row by
        row."""
        pairs = pairs_of(examples)
        order, places = by_length([len(first) + len(second) for first, second in pairs])
        labels = np.concatenate([e.labels for e in examples if e.labels is not None])
        return Batch(
            pair_inputs([pairs[i] for i in order], segments=reading.segments),
            torch.from_numpy(labels),
            float(len(examples)),
            sum(example.tokens for example in examples),
            {"places": places},
        )

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        rewards = logits_of(model, batch, context)[batch.more["places"], 0].float()
        if self.rows == RATINGS:
            assert self.mean is not None
            assert self.deviation is not None
            wanted = (batch.labels - self.mean) / self.deviation
            total = F.mse_loss(rewards, wanted, reduction="sum")
            return Loss(total, counts={"moments": moments(rewards.detach(), wanted)})
        chosen, rejected = rewards.view(-1, 2).unbind(-1)
        total = bradley_terry(chosen, rejected, batch.labels, self.center).sum()
        gaps = (chosen - rejected).detach()
        return Loss(
            total,
            {
                "accuracy": (gaps > 0).sum(),
                "margin": gaps.sum(),
                "reward": (chosen + rejected).detach().sum() / 2,
            },
        )

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        if "moments" in counts:
            return {**means, "pearson": correlation(counts["moments"])}
        return dict(means)


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor, center: float) -> Tensor:
    """(R,): the loss of each pair of scores, (R,) each."""
    losses = -F.logsigmoid(chosen - rejected - margin)
    return losses + center * (chosen + rejected) ** 2 if center else losses


def _example(conversations: Iterable[Sequence[Message]], label: float, reading: Reading) -> Example:
    sequences: list[Ints] = []
    cut = 0
    for messages in conversations:
        window, over = encode_exchange(
            messages, reading.tokenizer, reading.template, reading.max_length
        )
        sequences += segments_of(window, segments=reading.segments)
        cut += over
    return Example(tuple(sequences), np.array([label], np.float32), cut)


def _kind_of(rows: Iterable[Row]) -> str:
    """Of the first row that is a pair or rated."""
    for row in rows:
        if "chosen" in row.values:
            return PAIRS
        if _known_ratings(row):
            return RATINGS
    return PAIRS


def _known_ratings(row: Row) -> list[float]:
    try:
        return [each.rating for each in ratings_of(row)]
    except InputError:  # reported where the row is encoded
        return []
