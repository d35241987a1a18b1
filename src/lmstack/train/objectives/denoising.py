"""Denoising: write a text, given it with spans hidden and sentences in another order (BART).

    L = - sum over tokens t of the text of log p(x_t | noised text, x_<t)

The sentences of a document, cut at full stops, change places; then spans of words, whose lengths
are Poisson(``mean_span``), are each replaced by one mask until ``rate`` of the words are hidden; a
span of length 0 is a mask more (Lewis et al., 2020). Spans are laid as in the code that BART was
trained with: each begins at a word, chosen without replacement, and where one runs into another
both share what they cover, so a little less than ``rate`` is hidden. Unlike there, no mask is a
random token, as the paper has it.

Reads ``text``; documents longer than ``max_length`` become several examples.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from lmstack.core import allowed
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.text import Tokenizer
from lmstack.train.data.examples import IGNORED, Batch, Example, Ints
from lmstack.train.data.rows import Row
from lmstack.train.objectives.causal import with_end
from lmstack.train.objectives.masked import mask_id, worded_examples
from lmstack.train.objectives.objective import AllRows, Loss, Objective, Reading, token_loss
from lmstack.train.objectives.translation import check_encoder_decoder, seq2seq_batch

__all__ = ["Denoising", "infilled", "permuted", "span_lengths"]


@dataclass(frozen=True)
class Denoising(Objective):
    """``rate``: the share of words that is hidden. ``mean_span``: words of a span.
    ``permute_sentences``: the share of sentences that change places."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    kind: ClassVar[Kind | None] = "seq2seq"
    heads: ClassVar[tuple[Head, ...]] = ("lm",)

    rate: float = allowed(0.3, float, 0, 1, above=True)
    mean_span: float = allowed(3.0, float, 0.5, 1000)
    permute_sentences: float = allowed(1.0, float, 0, 1)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        check_encoder_decoder(base)
        mask_id(base.tokenizer)
        return self

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        del base
        return ()

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        # Room for an end that the tokenizer does not add.
        shorter = dataclasses.replace(reading, max_length=reading.max_length - 1)
        return worded_examples(row, shorter)

    def noised(self, example: Example, rng: np.random.Generator, reading: Reading) -> Example:
        (ids,), words, tokenizer = example.sequences, example.labels, reading.tokenizer
        assert words is not None
        inside = np.flatnonzero(words != IGNORED)
        first, last = int(inside[0]), int(inside[-1]) + 1  # between what the tokenizer adds
        order = permuted(_full_stops(tokenizer)[ids[first:last]], self.permute_sentences, rng)
        body, numbers = ids[first:last][order], words[first:last][order]
        begins = np.append(True, numbers[1:] != numbers[:-1])
        room = reading.max_length - (len(ids) - len(body))
        hidden = span_lengths(math.ceil(begins.sum() * self.rate), self.mean_span, rng)
        body = infilled(body, begins, hidden, mask_id(tokenizer), room, rng)
        source = np.concatenate([ids[:first], body, ids[last:]])
        return Example((source, np.array(with_end(ids.tolist(), tokenizer), np.int32)))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        return seq2seq_batch(examples, reading)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        return token_loss(model, batch, context)


def permuted(
    is_stop: npt.NDArray[np.bool_], share: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Places of the tokens once ``share`` of the sentences changed places. A sentence ends with a
    full stop that follows no other, or with the text."""
    ends = is_stop.copy()
    ends[1:] &= ~ends[:-1]
    ends[-1] = True
    sentences = np.split(np.arange(len(is_stop)), np.flatnonzero(ends)[:-1] + 1)
    moved = rng.permutation(len(sentences))[: math.ceil(len(sentences) * share)]
    order = np.arange(len(sentences))
    order[moved] = rng.permutation(moved)
    return np.concatenate([sentences[place] for place in order])


def span_lengths(budget: int, mean: float, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Poisson(``mean``) lengths whose sum is ``budget``, the last of them cut to it."""
    lengths = rng.poisson(mean, budget)
    while lengths.sum() < budget:
        lengths = np.append(lengths, rng.poisson(mean, budget))
    total = lengths.cumsum()
    last = int(np.searchsorted(total, budget))
    lengths = lengths[: last + 1]
    lengths[-1] -= total[last] - budget
    return lengths


def infilled(
    ids: Ints,
    begins: npt.NDArray[np.bool_],
    lengths: npt.NDArray[np.int64],
    mask: int,
    room: int,
    rng: np.random.Generator,
) -> Ints:
    """``ids`` with one ``mask`` in the place of each span of so many words, at most ``room`` long.
    ``begins``: where a word does. Masks of spans without words stand anywhere."""
    starts, ids = np.flatnonzero(begins), ids.copy()
    ends = np.append(starts, len(ids))
    long = lengths[lengths > 0]
    chosen = rng.permutation(len(starts))[: len(long)]
    ids[starts[chosen]] = mask
    kept = np.ones(len(ids), np.bool_)
    for word, length in zip(chosen, long, strict=True):
        kept[starts[word] + 1 : ends[min(word + length, len(starts))]] = False
    ids = ids[kept]
    more = min(len(lengths) - len(long), max(room - len(ids), 0))
    is_mask = np.zeros(len(ids) + more, np.bool_)
    is_mask[rng.permutation(len(is_mask))[:more]] = True
    result = np.full(len(is_mask), mask, np.int32)
    result[~is_mask] = ids
    return result


@lru_cache(maxsize=4)
def _full_stops(tokenizer: Tokenizer) -> npt.NDArray[np.bool_]:
    """Which tokens end in a full stop."""
    found = np.zeros(tokenizer.vocab_size, np.bool_)
    for index in range(tokenizer.vocab_size):
        found[index] = tokenizer.token_bytes(index).rstrip().endswith(b".")
    return found
