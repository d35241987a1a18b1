"""Reranking: one score for a query and a passage that are read together.

    labelled  L = - (w y log s(z) + (1 - y) log(1 - s(z)))
    lists     L = log(sum over passages i of the row of e^z_i) - z_positive

z: the score of a pair; s: the sigmoid; y: a label from 0 to 1; w: ``positive_weight``. Nogueira and
Cho 2019 (arXiv:1901.04085); equal to sentence-transformers' BinaryCrossEntropyLoss of a
`CrossEncoder`, and for lists to its MultipleNegativesRankingLoss with the row's own negatives,
scale 1 and no activation. A row of lists needs negatives: what a search found that is not the
answer.

Legend: R rows, P pairs of all rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from lmstack.core import InputError, allowed, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.data.examples import Batch, Example, by_length
from lmstack.train.data.formats import TextPair, is_scored, pair_of
from lmstack.train.data.pairs import cut_tokens, encode_pairs, pair_inputs, pairs_of
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, rising
from lmstack.train.objectives.objective import (
    AllRows,
    Loss,
    Objective,
    Reading,
    logits_of,
    one_score,
)

__all__ = ["Reranking"]

LABELLED, LISTS = "labelled", "lists"


@dataclass(frozen=True)
class Reranking(Objective):
    """``rows``: ``labelled`` or ``lists``; unless given, what the first row is. ``negatives``: of a
    list, at most so many, the first ones. ``positive_weight``: of labelled rows."""

    rows: str | None = allowed(None, str, also=(LABELLED, LISTS))
    negatives: int = allowed(31, int, 1, 1000)
    positive_weight: float = allowed(1.0, float, 0, 1e6, above=True)

    reads: ClassVar[tuple[str, ...]] = ("pairs",)
    kind: ClassVar[Kind | None] = "rerank"
    heads: ClassVar[tuple[Head, ...]] = ("sequence",)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del base
        return self.replace(rows=self.rows or (LABELLED if is_scored(rows()) else LISTS))

    def metrics(self) -> Sequence[TrainingMetric]:
        return (*super().metrics(), *(() if self.rows == LABELLED else rising("mrr")))

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        return one_score(base)

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        """A list has its positive first; segments of pair k are sequences 2k and 2k + 1."""
        pair = pair_of(row)
        labels = self._labels(pair)
        texts = [pair.second, *pair.negatives[: self.negatives]]
        pairs, longest = ([pair.first] * len(texts), texts), reading.max_length
        found = encode_pairs(reading.tokenizer, *pairs, longest, segments=reading.segments)
        lengths = [len(first) + len(second) for first, second in found]
        cut = cut_tokens(reading.tokenizer, *pairs, lengths, longest)
        yield Example(tuple(part for parts in found for part in parts), labels, cut)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """Pairs by their length; ``more["places"]`` (P,): where each row's stand, row by row:
        ``counts`` (R,) of each."""
        pairs = pairs_of(examples)
        order, places = by_length([len(first) + len(second) for first, second in pairs])
        labels = np.array([0.0 if e.labels is None else e.labels[0] for e in examples], np.float32)
        more = {
            "places": places,
            "counts": torch.tensor([len(example.sequences) // 2 for example in examples]),
        }
        return Batch(
            pair_inputs([pairs[i] for i in order], segments=reading.segments),
            torch.from_numpy(labels),
            float(len(examples)),
            sum(example.tokens for example in examples),
            more,
        )

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        scores = logits_of(model, batch, context)[batch.more["places"], 0].float()
        if self.rows == LABELLED:
            weight = scores.new_tensor(self.positive_weight)
            total = F.binary_cross_entropy_with_logits(
                scores, batch.labels, pos_weight=weight, reduction="sum"
            )
            return Loss(total, {"accuracy": ((scores > 0) == (batch.labels > 0.5)).sum()})
        counts = batch.more["counts"].tolist()
        lists = pad_sequence(list(scores.split_with_sizes(counts)), True, -torch.inf)
        total = F.cross_entropy(
            lists, lists.new_zeros(len(lists), dtype=torch.long), reduction="sum"
        )
        ranks = 1 + (lists[:, 1:] >= lists[:, :1]).sum(-1)
        return Loss(total, {"accuracy": (ranks == 1).sum(), "mrr": (1 / ranks).sum()})

    def _labels(self, pair: TextPair) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
        if (pair.score is not None) != (self.rows == LABELLED):
            has = "a label" if pair.score is not None else "no label"
            raise InputError(
                f"the row has {has}, and the others are {self.rows}",
                hint="train on one kind of rows; rows=labelled or rows=lists of the objective",
            )
        if pair.score is None:
            if not pair.negatives:
                raise InputError(
                    "the row has no negatives",
                    hint="add passages that do not answer, such as a search finds",
                )
            return None
        if not 0 <= pair.score <= 1:
            raise InputError(f"the label is {shown(pair.score)}", hint="from 0 to 1")
        return np.array([pair.score], np.float32)
