"""Sequence to sequence: write a target, given a source (translation, summaries, rewriting).

    L = - sum over tokens t of the target of log p(y_t | x, y_<t)

An encoder reads the source and a decoder the right target so far (teacher forcing), shifted by
the token that begins every output. The target's own end is a token to predict. Each pair is read
as the model is served: what the tokenizer adds to a text is there.

Reads ``source`` and ``target``; a pair that is longer than ``max_length`` on either side is left
out and counted, because half a translation teaches to stop early.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch

from lmstack.core import InputError, UnsupportedError, allowed, check_text
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.data.examples import IGNORED, Batch, Example, padded
from lmstack.train.data.formats import translation_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.causal import with_end
from lmstack.train.objectives.objective import AllRows, Loss, Objective, Reading, token_loss

__all__ = ["Translation", "check_encoder_decoder", "seq2seq_batch"]


@dataclass(frozen=True)
class Translation(Objective):
    """``prefix``: stands before each source, as in T5's tasks. ``label_smoothing``: this share of
    each target is spread over the vocabulary."""

    reads: ClassVar[tuple[str, ...]] = ("translation",)
    kind: ClassVar[Kind | None] = "seq2seq"
    heads: ClassVar[tuple[Head, ...]] = ("lm",)

    prefix: str = ""
    label_smoothing: float = allowed(0.0, float, 0, 0.99)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("prefix", self.prefix)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        check_encoder_decoder(base)
        return self

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        del base
        return ()

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        pair, tokenizer = translation_of(row), reading.tokenizer
        source = tokenizer.encode(self.prefix + pair.source, special=False)
        target = with_end(tokenizer.encode(pair.target, special=False), tokenizer)
        for name, ids in (("source", source), ("target", target)):
            if len(ids) > reading.max_length:
                raise InputError(
                    f"the {name} has {len(ids)} tokens, max_length is {reading.max_length}",
                    hint="raise max_length, or split the pair",
                )
        if not source:
            raise InputError("the source is empty")
        yield Example((np.array(source, np.int32), np.array(target, np.int32)))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        return seq2seq_batch(examples, reading)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        return token_loss(model, batch, context, smoothing=self.label_smoothing)


def check_encoder_decoder(base: LoadedModel) -> None:
    """`InputError` unless ``base`` has an encoder and a decoder that knows how to begin."""
    config, start = base.module.config, base.generation.decoder_start_id
    if config.encoder is None:
        raise UnsupportedError(
            f"{base.name} has no encoder apart from its decoder",
            hint="the objective trains encoder-decoders: T5, BART, Marian",
            param="base",
        )
    if start is None or not 0 <= start < config.vocab_size:
        raise InputError(
            f"the decoder begins with the token {start}, and there are {config.vocab_size}",
            hint="set decoder_start_token_id of the model: that of padding for T5 and Marian, of"
            " the end for BART",
            param="model",
        )


def seq2seq_batch(examples: Sequence[Example], reading: Reading) -> Batch:
    """Sources and targets, padded on the right; the decoder reads targets shifted by one. Its
    padding needs no mask: real places do not attend to later ones, and others have no label."""
    tokenizer, start = reading.tokenizer, reading.decoder_start
    assert start is not None, "the objective checks this of the base"
    pad = tokenizer.eos_id if tokenizer.pad_id is None else tokenizer.pad_id
    assert pad is not None
    sources, mask = padded([example.sequences[0] for example in examples], pad)
    targets, real = padded([example.sequences[1] for example in examples], pad)
    shifted = torch.cat([torch.full_like(targets[:, :1], start), targets[:, :-1]], dim=1)
    inputs = {"input_ids": sources, "attention_mask": mask, "decoder_input_ids": shifted}
    labels = targets.masked_fill(~real, IGNORED)
    tokens = sum(example.tokens for example in examples)
    return Batch(inputs, labels, float(real.sum()), tokens)
