"""Span corruption: write the spans of a text that were left out of it (T5).

    source   Thank you <extra_id_0> me to your party <extra_id_1> week
    target   <extra_id_0> for inviting <extra_id_1> last <extra_id_2>

    L = - sum over tokens t of the target of log p(y_t | source, y_<t)

``rate`` of the tokens are left out, in spans whose mean length is ``mean_span``; a sentinel stands
for each span, and one more ends the target (Raffel et al., 2020). How many spans there are, and
where, is as in the code that T5 was trained with (``random_spans_noise_mask``): a text begins with
a token that stays, and spans never touch. Documents are cut to pieces that fill ``max_length`` once
they are noised. Unlike there, documents are not joined to longer ones.

Reads ``text``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError, allowed
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.text import Tokenizer
from lmstack.train.data.examples import Batch, Example
from lmstack.train.data.formats import text_of
from lmstack.train.data.rows import Row
from lmstack.train.objectives.causal import with_end
from lmstack.train.objectives.objective import AllRows, Loss, Objective, Reading, token_loss
from lmstack.train.objectives.translation import check_encoder_decoder, seq2seq_batch

__all__ = ["SpanCorruption", "noise_spans"]


@dataclass(frozen=True)
class SpanCorruption(Objective):
    """``rate``: the share of tokens that is left out. ``mean_span``: tokens of a span."""

    reads: ClassVar[tuple[str, ...]] = ("text",)
    kind: ClassVar[Kind | None] = "seq2seq"
    heads: ClassVar[tuple[Head, ...]] = ("lm",)

    rate: float = allowed(0.15, float, 0.001, 0.9)
    mean_span: float = allowed(3.0, float, 1, 1000)

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        del rows
        check_encoder_decoder(base)
        _sentinels(base.tokenizer)
        return self

    def labels(self, base: LoadedModel) -> tuple[str, ...]:
        del base
        return ()

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        tokenizer = reading.tokenizer
        ids = tokenizer.encode(text_of(row), special=False, add_special_tokens=False)
        if len(ids) < 2:
            raise InputError(f"the text has {len(ids)} tokens, and noise needs two")
        step = self.tokens_that_fit(reading.max_length)
        _, spans = self.counts(min(step, len(ids)))
        known = len(_sentinels(tokenizer))
        if spans + 1 > known:
            raise InputError(
                f"{min(step, len(ids))} tokens need {spans + 1} sentinels, the tokenizer has"
                f" {known}",
                hint="a lower max_length or rate, or a higher mean_span",
                param="max_length",
            )
        for start in range(0, len(ids), step):
            piece = ids[start : start + step]
            if len(piece) > 1:
                yield Example((np.array(piece, np.int32),))

    def noised(self, example: Example, rng: np.random.Generator, reading: Reading) -> Example:
        (ids,), tokenizer = example.sequences, reading.tokenizer
        is_noise = noise_spans(len(ids), *self.counts(len(ids)), rng)
        sentinels = _sentinels(tokenizer)
        starts = is_noise & ~np.concatenate([[False], is_noise[:-1]])
        source, target = ids.copy(), np.repeat(ids, 1 + starts)
        numbered = sentinels[: int(starts.sum())]
        source[starts] = numbered
        kept = source[~is_noise | starts]
        # In the target a sentinel stands before the first token of its span.
        span = np.repeat(is_noise, 1 + starts)
        places = np.flatnonzero(starts) + np.arange(len(numbered))
        target[places] = numbered
        left_out = [*target[span].tolist(), int(sentinels[len(numbered)])]
        ends = [with_end(part, tokenizer) for part in (kept.tolist(), left_out)]
        return Example((np.array(ends[0], np.int32), np.array(ends[1], np.int32)))

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        return seq2seq_batch(examples, reading)

    def loss(self, model: Transformer, batch: Batch, context: ForwardContext) -> Loss:
        return token_loss(model, batch, context)

    def tokens_that_fit(self, max_length: int) -> int:
        """The most tokens whose noised source, its end included, and target have no more than
        ``max_length``."""
        if max(self.lengths(2)) > max_length:
            raise InputError(
                f"max_length is {max_length}, too short for any noised text",
                hint=f"{max(self.lengths(2))} at least",
                param="max_length",
            )
        return _most_that_fit(self, max_length)

    def lengths(self, tokens: int) -> tuple[int, int]:
        """Of the source and the target that are made of ``tokens``."""
        noise, spans = self.counts(tokens)
        return tokens - noise + spans + 1, noise + spans + 2

    def counts(self, tokens: int) -> tuple[int, int]:
        """How many of ``tokens`` are left out, and in how many spans."""
        noise = min(max(round(tokens * self.rate), 1), tokens - 1)
        spans = min(max(round(noise / self.mean_span), 1), tokens - noise)
        return noise, spans


def noise_spans(
    tokens: int, noise: int, spans: int, rng: np.random.Generator
) -> npt.NDArray[np.bool_]:
    """Which of ``tokens`` are left out: ``noise`` of them in ``spans``, cut at random into lengths
    of one or more, as is what stays; the two take turns, what stays first."""

    def segments(items: int) -> npt.NDArray[np.int64]:
        """``items`` cut into ``spans`` lengths, each way to cut them alike."""
        cuts = np.sort(rng.permutation(items - 1)[: spans - 1]) + 1
        return np.diff(np.concatenate([[0], cuts, [items]]))

    lengths = np.stack([segments(tokens - noise), segments(noise)], axis=1).flatten()
    return np.repeat(np.tile([False, True], spans), lengths)


@lru_cache(maxsize=4)
def _most_that_fit(objective: SpanCorruption, max_length: int) -> int:
    return next(n for n in count(2) if max(objective.lengths(n + 1)) > max_length)


@lru_cache(maxsize=4)
def _sentinels(tokenizer: Tokenizer) -> npt.NDArray[np.int32]:
    """Their ids, in the order in which spans are numbered."""
    found: list[int] = []
    while (index := tokenizer.id_of(f"<extra_id_{len(found)}>")) is not None:
        found.append(index)
    if len(found) < 2:
        raise InputError(
            "the tokenizer has no sentinels <extra_id_0>, <extra_id_1> and so on",
            hint="that of a T5 has them; a new one gets each by --special of `lmstack tokenizer"
            " train`",
            param="tokenizer",
        )
    return np.array(found, np.int32)
