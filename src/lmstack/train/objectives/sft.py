"""Supervised fine-tuning on conversations: a language model learns the assistant's turns.

    L = - sum over tokens t of assistant turns of log p(x_t | x_<t)

Which tokens those are follows from the chat template that serves the model: the conversation up to
a turn, with the prompt for an answer, is what the model will read; what the turn adds is what it
must write, the token that ends it included. Nothing else is learned.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lmstack.core import InputError, Message
from lmstack.model import ForwardContext, Transformer
from lmstack.registry.card import Kind
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.data.formats import messages_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.causal import next_token_batch
from lmstack.train.objectives.objective import Loss, Objective, Reading, token_loss

__all__ = ["SupervisedFineTuning", "assistant_spans"]


@dataclass(frozen=True)
class SupervisedFineTuning(Objective):
    reads: ClassVar[tuple[str, ...]] = ("chat", "instruction")
    packs: ClassVar[bool] = True
    kind: ClassVar[Kind | None] = "generate"

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        ids, spans = assistant_spans(messages_of(row), reading)
        labels = np.full(len(ids), IGNORED, np.int32)
        whole = np.array(ids, np.int32)
        for start, stop in spans:
            labels[start:stop] = whole[start:stop]
        whole, labels = whole[: reading.max_length], labels[: reading.max_length]
        if (labels[1:] == IGNORED).all():
            raise InputError(
                f"no token of the assistant is within max_length, {reading.max_length}",
                hint="raise max_length, or shorten the conversation",
            )
        yield Example((whole,), labels)

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        del reading
        return next_token_batch(examples)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        return token_loss(model, batch, context)


def assistant_spans(
    messages: Sequence[Message], reading: Reading
) -> tuple[list[int], list[tuple[int, int]]]:
    """The conversation's token ids, and the ranges that the assistant wrote.

    `InputError`: there is no template, no turn of the assistant, or the template renders a
    conversation in another way once it goes on, so that no range can be named.
    """
    template, tokenizer = reading.template, reading.tokenizer
    if template is None:
        raise InputError(
            "the model has no chat template", hint="train on text, or give the base a template"
        )
    whole = template.encode(messages, tokenizer, add_generation_prompt=False)
    spans = []
    for place, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = template.encode(messages[:place], tokenizer, add_generation_prompt=True)
        after = template.encode(messages[: place + 1], tokenizer, add_generation_prompt=False)
        if after[: len(before)] != before or whole[: len(after)] != after:
            raise InputError(
                "the chat template renders earlier turns in another way as the conversation goes"
                " on, so that the assistant's tokens cannot be told",
                hint="use a base whose template keeps earlier turns as they were, or train on text",
            )
        spans.append((len(before), len(after)))
    if not spans:
        raise InputError("the conversation has no turn of the assistant")
    return whole, spans
