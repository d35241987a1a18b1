"""Supervised fine-tuning on conversations: a language model learns the assistant's turns.

    L = - sum over tokens t of assistant turns of log p(x_t | x_<t)

Which tokens those are follows from the chat template that serves the model
(`ChatTemplate.encode_turns`): by its ``{% generation %}`` marks, or else what a turn adds to the
prompt for it, the token that ends the turn included. A row's tools are shown as when the model is
served; calls of them are learned, and what they returned is not. Nothing else is learned: not the
line end that some templates print after that token, which is never generated. A conversation of
more than ``max_length`` tokens is cut at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lmstack.core import InputError
from lmstack.model import ForwardContext, Transformer
from lmstack.registry.card import Kind
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.data.formats import messages_of, tools_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.causal import next_token_batch
from lmstack.train.objectives.objective import Loss, Objective, Reading, token_loss

__all__ = ["SupervisedFineTuning"]


@dataclass(frozen=True)
class SupervisedFineTuning(Objective):
    reads: ClassVar[tuple[str, ...]] = ("chat", "instruction")
    packs: ClassVar[bool] = True
    kind: ClassVar[Kind | None] = "generate"

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        if reading.template is None:
            raise InputError(
                "the model has no chat template", hint="train on text, or give the base a template"
            )
        ids, spans = reading.template.encode_turns(
            messages_of(row), reading.tokenizer, tools=tools_of(row)
        )
        labels = np.full(len(ids), IGNORED, np.int32)
        whole = np.array(ids, np.int32)
        for start, stop in spans:
            labels[start:stop] = whole[start:stop]
        left_out = max(len(ids) - reading.max_length, 0)
        whole, labels = whole[: reading.max_length], labels[: reading.max_length]
        if (labels[1:] == IGNORED).all():
            raise InputError(
                f"no token of the assistant is within max_length, {reading.max_length}",
                hint="raise max_length, or shorten the conversation",
            )
        yield Example((whole,), labels, left_out)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        del reading
        return next_token_batch(examples)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        return token_loss(model, batch, context)
