"""Logits processors: penalties, biases and constraints, written into a sequence's logits.

Order, as in transformers: repetition penalty (prompt and output), presence and frequency
penalties (output), logit bias; then what is forbidden: n-grams seen before, bad words, an end
before ``min_tokens``, whatever a caller's function leaves out; then what is forced: the first
token, and the last that fits; last, the mask of a grammar, beside which nothing is forced, since
it knows where its text begins and ends.

In an encoder-decoder the output is all there is to repeat: the encoder's input does not count.
Not covered: how a token is then chosen (`sampler`, `beams`). To add one: a function
and its line in `PROCESSORS`.

Legend: S streams, V vocabulary.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lmstack.engine.constraints.masks import apply_masks
from lmstack.engine.request import EngineRequest
from lmstack.engine.sequence import Sequence

__all__ = ["PROCESSORS", "LogitsProcessor", "adjust", "processors_of"]


@dataclass(frozen=True)
class LogitsProcessor:
    """``wanted``: whether a request asks for it. ``apply`` changes logits (V,) in place.
    ``tokens``: ids that the request states, to be checked against the vocabulary, in its parameter
    ``param``."""

    wanted: Callable[[EngineRequest], object]
    apply: Callable[[Tensor, Sequence], None]
    param: str = ""
    tokens: Callable[[EngineRequest], Iterable[int]] = lambda _: ()


def adjust(logits_SV: Tensor, sequences: Seq[Sequence]) -> None:
    """Change each row in place, logits or log-probabilities alike."""
    for row, sequence in zip(logits_SV, sequences, strict=True):
        for processor in processors_of(sequence):
            processor.apply(row, sequence)
    apply_masks(
        logits_SV,
        [(row, s.matcher) for row, s in enumerate(sequences) if s.matcher is not None],
    )


def processors_of(sequence: Sequence) -> Seq[LogitsProcessor]:
    """Those that its request asks for, chosen once."""
    if sequence.processors is None:
        sequence.processors = [p for p in PROCESSORS if p.wanted(sequence.request)]
    chosen: list[LogitsProcessor] = sequence.processors
    return chosen


def _repetition(row: Tensor, sequence: Sequence) -> None:
    penalty = sequence.request.sampling.repetition_penalty
    # The prompt may hold ids that the tokenizer does not know, which are never written.
    size = len(row)
    seen = _ids((t for t in set(sequence.tokens) if t < size), row)
    values = row[seen]
    row[seen] = torch.where(values > 0, values / penalty, values * penalty)


def _presence_and_frequency(row: Tensor, sequence: Sequence) -> None:
    p, counts = sequence.request.sampling, sequence.output_counts
    if counts:
        amounts = torch.tensor(list(counts.values()), dtype=row.dtype, device=row.device)
        row[_ids(counts, row)] -= p.presence_penalty + p.frequency_penalty * amounts


def _logit_bias(row: Tensor, sequence: Sequence) -> None:
    biases = sequence.request.sampling.logit_bias
    amounts = [float(x) for x in biases.values()]
    row[_ids(biases, row)] += torch.tensor(amounts, device=row.device)


def _no_repeat_ngram(row: Tensor, sequence: Sequence) -> None:
    """Forbid what would end a run of tokens that the text holds already."""
    ids, size = np.asarray(sequence.tokens), sequence.request.sampling.no_repeat_ngram_size
    if len(ids) >= size:
        windows = np.lib.stride_tricks.sliding_window_view(ids, size)
        same = (windows[:, :-1] == ids[len(ids) - size + 1 :]).all(axis=1)
        seen = np.unique(windows[same, -1])
        _forbid(row, seen[seen < len(row)].tolist())


def _bad_words(row: Tensor, sequence: Sequence) -> None:
    tokens = sequence.tokens
    words = sequence.request.bad_words
    _forbid(row, [w[-1] for w in words if tuple(tokens[len(tokens) - len(w) + 1 :]) == w[:-1]])


def _min_tokens(row: Tensor, sequence: Sequence) -> None:
    if sequence.num_output < sequence.request.sampling.min_tokens:
        _forbid(row, [*sequence.vocabulary.eos_ids, *sequence.request.stop_ids])


def _allowed_tokens(row: Tensor, sequence: Sequence) -> None:
    allow = sequence.request.allowed_tokens
    assert allow is not None
    allowed = _ids(allow(tuple(sequence.tokens)), row)
    kept = row[allowed]
    row.fill_(-torch.inf)
    row[allowed] = kept


def _forced(row: Tensor, sequence: Sequence) -> None:
    p = sequence.request.sampling
    token = None
    if p.forced_bos_id is not None and sequence.num_output == 0:
        token = p.forced_bos_id
    if p.forced_eos_id is not None and len(sequence.tokens) == sequence.limit - 1:
        token = p.forced_eos_id
    if token is not None and sequence.matcher is None:
        row.fill_(-torch.inf)
        row[token] = 0.0


PROCESSORS = (
    LogitsProcessor(lambda r: r.sampling.repetition_penalty != 1, _repetition),
    LogitsProcessor(
        lambda r: r.sampling.presence_penalty or r.sampling.frequency_penalty,
        _presence_and_frequency,
    ),
    LogitsProcessor(
        lambda r: r.sampling.logit_bias,
        _logit_bias,
        "logit_bias",
        lambda r: r.sampling.logit_bias,
    ),
    LogitsProcessor(lambda r: r.sampling.no_repeat_ngram_size, _no_repeat_ngram),
    LogitsProcessor(
        lambda r: r.bad_words,
        _bad_words,
        "bad_words",
        lambda r: itertools.chain(*r.bad_words),
    ),
    LogitsProcessor(lambda r: r.sampling.min_tokens, _min_tokens),
    LogitsProcessor(lambda r: r.allowed_tokens is not None, _allowed_tokens),
    LogitsProcessor(
        lambda r: r.sampling.forced_bos_id is not None,
        _forced,
        "forced_bos_id",
        lambda r: [] if r.sampling.forced_bos_id is None else [r.sampling.forced_bos_id],
    ),
    LogitsProcessor(
        lambda r: r.sampling.forced_eos_id is not None,
        _forced,
        "forced_eos_id",
        lambda r: [] if r.sampling.forced_eos_id is None else [r.sampling.forced_eos_id],
    ),
)


def _ids(tokens: Iterable[int], row: Tensor) -> Tensor:
    return torch.tensor(list(tokens), dtype=torch.long, device=row.device)


def _forbid(row: Tensor, tokens: Iterable[int]) -> None:
    row[_ids(tokens, row)] = -torch.inf
