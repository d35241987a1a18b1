"""The reader: which of the texts found for a question answers it, and whether any does.

A cross-encoder gives each text a score s_i, and the question is whether one of them answers or none
does. All of them and "none", whose score is ``null_score``, share one softmax (the shared norm of
Clark and Gardner 2018, arXiv:1710.10723, with their option of no answer):

    L = log(1 + sum_i e^(z_i)) - log sum over i that answer of e^(z_i)
    z_i = (s_i - null_score) / temperature

Where nothing answers, "none" takes the place of those that do. So the scores of one question are
comparable with those of another: how far s_i is above ``null_score`` makes a confidence. Several
texts that answer share the probability; it does not matter which of them has it.

Reads ``choices``: a question with texts that answer it (none where nothing does) and texts that do
not, passages with their headings or the sentences of one. Does not cover where texts come from
(`lmstack data questions`).

Legend: Q questions, P texts of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lmstack.core import allowed
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.data.examples import Batch, Example
from lmstack.train.data.formats import choices_of
from lmstack.train.data.pairs import cut_tokens, encode_pairs, pair_inputs, pairs_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import Loss, Objective, Reading, logits_of, one_score

__all__ = ["Reader", "null_softmax_loss"]


@dataclass(frozen=True)
class Reader(Objective):
    """``negatives``: texts of a row that do not answer are read up to this many, the first ones,
    which should be the hardest. ``temperature`` and ``null_score``: see the module; set them so
    that the base's own scores already tell what answers, and training begins from what it knows."""

    negatives: int = allowed(7, int, 1, 1000)
    temperature: float = allowed(1.0, float, 0, 1000, above=True)
    null_score: float = allowed(0.0, float, -1000, 1000)

    reads: ClassVar[tuple[str, ...]] = ("choices",)
    kind: ClassVar[Kind | None] = "rerank"
    heads: ClassVar[tuple[Head, ...]] = ("sequence",)

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        return one_score(base)

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        choices = choices_of(row)
        texts = [*choices.positives, *choices.negatives[: self.negatives]]
        pairs, longest = ([choices.query] * len(texts), texts), reading.max_length
        # Control tokens spelled in documents of others are text, as where they are searched.
        found = encode_pairs(
            reading.tokenizer, *pairs, longest, segments=reading.segments, special=False
        )
        lengths = [len(first) + len(second) for first, second in found]
        cut = cut_tokens(reading.tokenizer, *pairs, lengths, longest, special=False)
        labels = np.zeros(len(texts), np.int32)
        labels[: len(choices.positives)] = 1
        yield Example(tuple(part for pair in found for part in pair), labels, cut)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        """The texts of all questions in one varlen batch; ``more["counts"]`` (Q,) are those of
        each question. Segments of text k are sequences 2k and 2k + 1 of an example."""
        labels = torch.from_numpy(
            np.concatenate([e.labels for e in examples if e.labels is not None])
        )
        counts = torch.tensor([len(example.sequences) // 2 for example in examples])
        return Batch(
            pair_inputs(pairs_of(examples), segments=reading.segments),
            labels,
            float(len(examples)),
            sum(example.tokens for example in examples),
            {"counts": counts},
        )

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        scores = logits_of(model, batch, context)[:, 0].float() - self.null_score
        scores = scores / self.temperature
        parts, answers = batch.more["counts"].tolist(), batch.labels.bool()
        losses, right = zip(
            *map(
                null_softmax_loss, scores.split_with_sizes(parts), answers.split_with_sizes(parts)
            ),
            strict=True,
        )
        return Loss(torch.stack(losses).sum(), {"accuracy": torch.stack(right).sum()})


def null_softmax_loss(scores: Tensor, answers: Tensor) -> tuple[Tensor, Tensor]:
    """The loss of one question, and 1 where what has the greatest score answers, or "none" has it
    and nothing does (no gradient). ``scores`` (P,): above that of "none"; ``answers`` (P,):
    whether each text does."""
    every = torch.cat([scores.new_zeros(1), scores])
    wanted = torch.cat([~answers.any()[None], answers])
    right = wanted[every.detach().argmax()].to(scores.dtype)
    return every.logsumexp(0) - every[wanted].logsumexp(0), right
