"""Causal language modelling: predict each token from those before it.

    L = - sum_t log p(x_t | x_<t)

Reads ``text``; documents longer than ``max_length`` become several examples. The end of a document
is a token to predict, so that the model learns to stop (Radford et al., 2019).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.model import ForwardContext, Transformer
from lmstack.registry.card import Kind
from lmstack.text import Tokenizer
from lmstack.train.data.examples import IGNORED, Batch, Example, varlen
from lmstack.train.data.formats import text_of
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, falling
from lmstack.train.objectives.objective import Loss, Objective, Reading, token_loss

__all__ = ["CausalLM", "next_token_batch", "with_end"]


@dataclass(frozen=True)
class CausalLM(Objective):
    reads: ClassVar[tuple[str, ...]] = ("text",)
    packs: ClassVar[bool] = True
    kind: ClassVar[Kind | None] = "generate"

    def metrics(self) -> Sequence[TrainingMetric]:
        return (*super().metrics(), *falling("bits_per_byte"))

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        tokenizer = reading.tokenizer
        # What looks like a control token in a document is text.
        ids = np.array(with_end(tokenizer.encode(text_of(row), special=False), tokenizer), np.int32)
        # One token of overlap: the last of a piece is the first to read of the next.
        step = reading.max_length - 1
        for start in range(0, len(ids) - 1, step):
            yield Example((ids[start : start + reading.max_length],))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        batch = next_token_batch(examples)
        labels = batch.labels[batch.labels != IGNORED].numpy()
        size = torch.tensor(float(reading.token_bytes[labels].sum()))
        return dataclasses.replace(batch, more={"bytes": size})

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        loss = token_loss(model, batch, context)
        return Loss(loss.total, {**loss.sums, **batch.more})

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        """With bits per byte of text, which models of other vocabularies can be compared by."""
        del counts
        found = dict(means)
        size = found.pop("bytes", 0.0)
        if size:
            found["bits_per_byte"] = found["loss"] / math.log(2) / size
        return found


def next_token_batch(examples: Sequence[Example]) -> Batch:
    """A varlen batch in which each token's label is the one after it, in its own sequence; where
    examples have labels, those are shifted."""
    parts = []
    for example in examples:
        (ids,) = example.sequences
        wanted = ids if example.labels is None else example.labels
        parts.append(np.append(wanted[1:], IGNORED))
    labels = torch.from_numpy(np.concatenate(parts).astype(np.int64))
    weight = float((labels != IGNORED).sum())
    tokens = sum(example.tokens for example in examples)
    return Batch(varlen([e.sequences[0] for e in examples]), labels, weight, tokens)


def with_end(ids: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """``ids`` with the token that ends a text, unless the tokenizer added it."""
    if tokenizer.eos_id is None:
        raise InputError(
            "the tokenizer has no token that ends a text",
            hint="train one with `lmstack tokenizer train`, or use that of another model",
            param="tokenizer",
        )
    return [*ids] if ids and ids[-1] == tokenizer.eos_id else [*ids, tokenizer.eos_id]
