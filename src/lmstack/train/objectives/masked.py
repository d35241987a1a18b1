"""Masked language modelling: predict tokens that were hidden, from both sides (BERT).

    L = - sum over hidden places t of log p(x_t | the text as it is shown)

Each token is chosen with the probability ``rate``; with ``whole_word`` each word is, with all its
tokens. Of the chosen ones 80 % are shown as the mask, 10 % as a random token and 10 % as they are,
each token by its own draw (Devlin et al., 2019). Special tokens are never chosen and never drawn.
Places are chosen anew each time that a text is read, independently of each other, as transformers
does; Devlin's own code hides a fixed number in each text, once.

Reads ``text``; documents longer than ``max_length`` become several examples.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch

from lmstack.core import InputError, UnsupportedError, allowed, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.text import Tokenizer
from lmstack.text.windows import encode_windows, numbered_words
from lmstack.train.data.examples import IGNORED, Batch, Example, varlen
from lmstack.train.data.formats import text_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.objective import AllRows, Loss, Objective, Reading, token_loss

__all__ = ["MaskedLM", "mask_id", "worded_examples"]

_MASK, _RANDOM = 0.8, 0.1  # shares of the chosen tokens; the others are shown as they are


@dataclass(frozen=True)
class MaskedLM(Objective):
    """``rate``: the share of tokens to predict. ``whole_word``: choose words, not tokens."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    packs: ClassVar[bool] = True
    kind: ClassVar[Kind | None] = "fill-mask"
    heads: ClassVar[tuple[Head, ...]] = ("lm",)

    rate: float = allowed(0.15, float, 0, 1, above=True)
    whole_word: bool = allowed(False, bool)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        mask_id(base.tokenizer)
        if base.module.config.causal:
            raise UnsupportedError(
                f"{base.name} reads a text from left to right only, and masks are filled from both"
                " sides",
                hint="an encoder, such as bge-small-en-v1.5; a decoder learns by `causal`",
                param="base",
            )
        return self

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        del base
        return ()

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        return worded_examples(row, reading, reading.tokenizer.special_ids)

    def noised(self, example: Example, rng: np.random.Generator, reading: Reading) -> Example:
        (ids,), words = example.sequences, example.labels
        assert words is not None
        chosen = self._chosen(words, rng)
        shown, draw = ids.copy(), rng.random(len(ids))
        shown[chosen & (draw < _MASK)] = mask_id(reading.tokenizer)
        other = chosen & (draw >= _MASK) & (draw < _MASK + _RANDOM)
        ordinary = _ordinary_ids(reading.tokenizer)
        shown[other] = ordinary[rng.integers(len(ordinary), size=int(other.sum()))]
        return Example((shown,), np.where(chosen, ids, IGNORED).astype(np.int32))

    def _chosen(self, words: npt.NDArray[Any], rng: np.random.Generator) -> npt.NDArray[np.bool_]:
        may: npt.NDArray[np.bool_] = words != IGNORED
        if not self.whole_word:
            return may & (rng.random(len(words)) < self.rate)
        distinct, place = np.unique(words, return_inverse=True)
        return may & (rng.random(len(distinct)) < self.rate)[place]

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        del reading
        parts = [example.labels for example in examples if example.labels is not None]
        labels = torch.from_numpy(np.concatenate(parts).astype(np.int64))
        weight = float((labels != IGNORED).sum())
        tokens = sum(example.tokens for example in examples)
        return Batch(varlen([e.sequences[0] for e in examples]), labels, weight, tokens)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        return token_loss(model, batch, context)


def mask_id(tokenizer: Tokenizer) -> int:
    """The token that hides others; `InputError` where there is none."""
    name = tokenizer.name_of("mask_token")
    index = tokenizer.id_of(name) if name else None
    if index is None:
        raise InputError(
            "the tokenizer has no mask token",
            hint="name one as mask_token in tokenizer_config.json, or take the tokenizer of an"
            " encoder; `lmstack tokenizer train --kind wordpiece` makes one",
            param="tokenizer",
        )
    return index


def worded_examples(row: Row, reading: Reading, skipped: Collection[int] = ()) -> Iterator[Example]:
    """The text of ``row`` as the model reads it, cut into examples of at most ``max_length``
    tokens. Until they are noised, their labels are the numbers of the words that tokens belong
    to, `IGNORED` for tokens that the tokenizer added and for ids in ``skipped``."""
    text, tokenizer = text_of(row), reading.tokenizer
    [windows] = encode_windows(
        tokenizer, [text], max_length=reading.max_length, cut="first", stride=0, special=False
    )
    is_empty = True
    for window in windows:
        ids = np.array(window.ids, np.int32)
        numbers = [IGNORED if n is None else n for n in numbered_words(window, text)]
        words = np.where(np.isin(ids, [*skipped]), IGNORED, np.array(numbers, np.int32))
        if (words != IGNORED).any():
            is_empty = False
            yield Example((ids,), words.astype(np.int32))
    if is_empty:
        raise InputError(f"text is {shown(text)}, in which the vocabulary has no token")


@lru_cache(maxsize=4)
def _ordinary_ids(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """All tokens that are not special."""
    known = (i for i in range(tokenizer.vocab_size) if tokenizer.token(i))
    return np.array([i for i in known if i not in tokenizer.special_ids], np.int32)
