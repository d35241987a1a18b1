"""What a sequence may say next: its penalties, biases and constraints, written into its logits.

Order, as in transformers: repetition penalty (prompt and output), presence and frequency
penalties (output), logit bias; then what is forbidden: n-grams seen before, bad words, an end
before ``min_tokens``, whatever a caller's function leaves out, whatever leaves the grammar; then
what is forced: the first token, and the last that fits.

In an encoder-decoder the output is all there is to repeat: the encoder's input does not count.
Not covered: how a token is then chosen (`sampler`, `beams`, `contrastive`).

Legend: S streams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Seq

import numpy as np
import torch
from torch import Tensor

from lmstack.core import SamplingParams
from lmstack.engine.decoding.grammar import mask_words
from lmstack.engine.sequence import Sequence

__all__ = ["adjust", "penalise"]


def adjust(logits_SV: Tensor, sequences: Seq[Sequence]) -> None:
    """Change each row in place, logits or log-probabilities alike."""
    for row, sequence in zip(logits_SV, sequences, strict=True):
        if not sequence.is_free:
            _adjust(row, sequence)
    masked = [i for i, s in enumerate(sequences) if s.matcher is not None]
    if masked:
        _mask(logits_SV, sequences, masked)
    for row, sequence in zip(logits_SV, sequences, strict=True):
        if not sequence.is_free:
            _force(row, sequence)


def _adjust(row: Tensor, sequence: Sequence) -> None:
    p = sequence.request.sampling
    if p.repetition_penalty != 1 or p.presence_penalty or p.frequency_penalty:
        penalise(row, sequence, p)
    if p.logit_bias:
        amounts = [float(x) for x in p.logit_bias.values()]
        row[_ids(p.logit_bias, row)] += torch.tensor(amounts, device=row.device)
    banned = _banned(sequence)
    if banned:
        row[_ids(banned, row)] = -torch.inf
    if sequence.request.allowed_tokens is not None:
        allowed = _ids(sequence.request.allowed_tokens(tuple(sequence.tokens)), row)
        kept = row[allowed]
        row.fill_(-torch.inf)
        row[allowed] = kept


def penalise(row: Tensor, sequence: Sequence, p: SamplingParams) -> None:
    """Repetition, presence and frequency penalties."""
    if p.repetition_penalty != 1:
        # The prompt may hold ids that the tokenizer does not know, which are never written.
        seen = _ids((t for t in set(sequence.tokens) if t < len(row)), row)
        values = row[seen]
        row[seen] = torch.where(
            values > 0, values / p.repetition_penalty, values * p.repetition_penalty
        )
    counts = sequence.output_counts
    if counts and (p.presence_penalty or p.frequency_penalty):
        amounts = torch.tensor(list(counts.values()), dtype=row.dtype, device=row.device)
        row[_ids(counts, row)] -= p.presence_penalty + p.frequency_penalty * amounts


def _ids(tokens: Iterable[int], row: Tensor) -> Tensor:
    return torch.tensor(list(tokens), dtype=torch.long, device=row.device)


def _banned(sequence: Sequence) -> list[int]:
    request, tokens = sequence.request, sequence.tokens
    banned: list[int] = []
    if request.sampling.no_repeat_ngram_size:
        banned += _repeats(tokens, request.sampling.no_repeat_ngram_size)
    for word in request.bad_words:
        start = len(word) - 1
        if not start or tuple(tokens[-start:]) == word[:start]:
            banned.append(word[-1])
    if sequence.num_output < request.sampling.min_tokens:
        banned += [*sequence.vocabulary.eos_ids, *request.stop_ids]
    return banned


def _repeats(tokens: list[int], size: int) -> list[int]:
    """The tokens that would end a run of ``size`` tokens that ``tokens`` hold already."""
    if len(tokens) < size:
        return []
    ids = np.asarray(tokens)
    if size == 1:
        return np.unique(ids).tolist()  # type: ignore[no-any-return]
    windows = np.lib.stride_tricks.sliding_window_view(ids, size)
    same = (windows[:, :-1] == ids[len(ids) - size + 1 :]).all(axis=1)
    return np.unique(windows[same, -1]).tolist()  # type: ignore[no-any-return]


def _mask(logits_SV: Tensor, sequences: Seq[Sequence], rows: list[int]) -> None:
    num_tokens = logits_SV.shape[1]
    words = np.zeros((len(rows), mask_words(num_tokens)), np.int32)
    for i, row in enumerate(rows):
        matcher = sequences[row].matcher
        assert matcher is not None
        matcher.fill(words, i)
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
    refused = torch.from_numpy(bits[:, :num_tokens] == 0).to(logits_SV.device)
    where = torch.tensor(rows, device=logits_SV.device)
    logits_SV[where] = logits_SV[where].masked_fill_(refused, -torch.inf)


def _force(row: Tensor, sequence: Sequence) -> None:
    """A grammar knows where its text begins and ends, so nothing is forced beside one."""
    p = sequence.request.sampling
    token = None
    if p.forced_bos_id is not None and sequence.num_output == 0:
        token = p.forced_bos_id
    if p.forced_eos_id is not None and len(sequence.tokens) == sequence.limit - 1:
        token = p.forced_eos_id
    if token is not None and sequence.matcher is None:
        row.fill_(-torch.inf)
        row[token] = 0.0
