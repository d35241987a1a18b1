"""Runs the model on the chunks of one step: a varlen batch in, logits of the next tokens out.

Tokens of all chunks lie end to end in one batch, so a step costs one pass through the layers.
Logits are computed only where a token is to be sampled, and for tokens that are scored a few rows
at a time.

Not covered: choosing the chunks (scheduler) or the tokens (sampler).
"""

from __future__ import annotations

from collections.abc import Sequence as Seq
from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.engine.decoding.sampler import rows_at, score_targets
from lmstack.engine.executor import CrossSpan, Executor, SequenceSpan
from lmstack.engine.request import TokenScore
from lmstack.engine.scratch import Scratch
from lmstack.engine.sequence import SequenceChunk
from lmstack.model import Transformer

__all__ = ["Computed", "Runner"]

SCORED_ROWS = 64


@dataclass(frozen=True, slots=True)
class Computed:
    """``logits`` float32 (S, V) after the last token of each chunk that samples, in order;
    ``drafted`` float32 (R, V) after each token of their drafts; ``scores`` for each chunk: of the
    given tokens that follow from each of its `scored_places`; ``unsound``: those with a draft that
    does not compute to numbers. ``logits`` and ``drafted`` lie in the `Scratch` that `Runner.run`
    was given."""

    logits: Tensor
    drafted: Tensor
    scores: list[list[list[TokenScore]]]
    unsound: list[SequenceChunk]


class Runner:
    """Used by one thread."""

    def __init__(self, module: Transformer, executor: Executor) -> None:
        config = module.config
        if config.head != "lm" or not all(config.layer(i).causal for i in range(config.num_layers)):
            raise UnsupportedError(
                f"this model (head {config.head!r}, causal {config.causal}) does not generate",
                hint="use a language model, for example smollm2-135m-instruct",
                param="model",
            )
        self._executor = executor

    @torch.inference_mode()
    def run(self, chunks: Seq[SequenceChunk], num_tokens: int, scratch: Scratch) -> Computed:
        """``chunks``: those of one token first. ``num_tokens``: size of the vocabulary.
        ``scratch``: where the logits are written, valid until the next run with it."""
        self._encode(chunks)
        hidden = self._hidden(chunks)
        ends: list[int] = []
        drafts: list[int] = []
        row = 0
        for chunk in chunks:
            if chunk.samples:
                end = row + chunk.count - len(chunk.draft)
                ends.append(end - 1)
                drafts += range(end, row + chunk.count)
            row += chunk.count
        scores = self._scores(chunks, hidden, num_tokens, scratch)
        last = hidden
        if len(ends) < len(hidden):
            last = rows_at(hidden, ends + drafts)
        logits, count = self._executor.logits(last, scratch), len(ends)
        unsound = _unsound(chunks, last[count:]) if drafts else []
        return Computed(logits[:count], logits[count:], scores, unsound)

    def _hidden(self, chunks: Seq[SequenceChunk]) -> Tensor:
        """Hidden states of the tokens of ``chunks``, end to end."""
        lengths = dict.fromkeys(c.sequence.rope_length for c in chunks)
        if len(lengths) == 1:
            return self._pass(chunks, chunks[0].sequence.rope_length)
        # Rotations that differ from sequence to sequence: a pass for each length.
        parts: dict[int, Tensor] = {}
        for length in lengths:
            places = [i for i, c in enumerate(chunks) if c.sequence.rope_length == length]
            hidden = self._pass([chunks[i] for i in places], length)
            split = hidden.split_with_sizes([chunks[i].count for i in places])
            parts |= zip(places, split, strict=True)
        return torch.cat([parts[i] for i in range(len(chunks))])

    def _pass(self, chunks: Seq[SequenceChunk], length: int | None) -> Tensor:
        ids = [t for c in chunks for t in (*c.sequence.tokens[c.start : c.end], *c.draft)]
        positions = [p for c in chunks for p in range(c.start, c.end)]
        return self._executor.hidden(ids, positions, [_span(c) for c in chunks], length)

    def _encode(self, chunks: Seq[SequenceChunk]) -> None:
        """Run the encoder on the inputs that it has not read: each once, all of them together."""
        fresh = {
            c.sequence.cross_table[0]: c.sequence
            for c in chunks
            if c.sequence.encoder_ids and not c.sequence.is_encoded
        }
        if fresh:
            self._executor.encode([(s.encoder_ids, s.cross_table) for s in fresh.values()])

    def _scores(
        self, chunks: Seq[SequenceChunk], hidden: Tensor, num_tokens: int, scratch: Scratch
    ) -> list[list[list[TokenScore]]]:
        """Of the tokens that are given: place i of a prompt predicts token i + 1, the last one the
        targets. Those known from before a preemption are skipped."""
        rows: list[int] = []
        owners: list[int] = []
        tokens: list[Seq[int]] = []
        start = 0
        for number, chunk in enumerate(chunks):
            for place in _scored(chunk):
                rows.append(start + place - chunk.start)
                owners.append(number)
                tokens.append(chunk.sequence.scored_after(place))
            start += chunk.count
        found: list[list[list[TokenScore]]] = [[] for _ in chunks]
        for first in range(0, len(rows), SCORED_ROWS):
            some = slice(first, first + SCORED_ROWS)
            logits = self._executor.logits(rows_at(hidden, rows[some]), scratch)[:, :num_tokens]
            tops = [chunks[n].sequence.request.sampling.logprobs or 0 for n in owners[some]]
            scored = score_targets(logits, tokens[some], tops)
            for number, scores in zip(owners[some], scored, strict=True):
                found[number].append(scores)
        return found


def _span(chunk: SequenceChunk) -> SequenceSpan:
    sequence = chunk.sequence
    cross = None
    if sequence.encoder_ids:
        cross = CrossSpan(sequence.cross_table, len(sequence.encoder_ids))
    adapter = sequence.request.adapter
    prepared = None if adapter is None else adapter.prepared
    return SequenceSpan(sequence.table, chunk.start, chunk.end, cross, _wanted(chunk), prepared)


def _wanted(chunk: SequenceChunk) -> int | None:
    """Of how many of its last tokens something is made; None: of all."""
    scored = _scored(chunk)
    if scored:
        return chunk.end - scored.start
    return 1 + len(chunk.draft) if chunk.samples else 0


def _scored(chunk: SequenceChunk) -> range:
    """The places of ``chunk`` whose logits score tokens that were given."""
    places = chunk.sequence.scored_places
    return range(max(chunk.start, places.start), min(chunk.end, places.stop))


def _unsound(chunks: Seq[SequenceChunk], drafted: Tensor) -> list[SequenceChunk]:
    """The chunks of whose drafts some row of ``drafted`` (R, D) is not finite."""
    if drafted.isfinite().all():
        return []
    drafting = [c for c in chunks if c.draft]
    parts = drafted.split_with_sizes([len(c.draft) for c in drafting])
    return [c for c, part in zip(drafting, parts, strict=True) if not part.isfinite().all()]
