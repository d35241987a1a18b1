"""A draft model: a smaller one that drafts for any text what a larger one may write next.

It has an executor and keys and values of its own, in as many blocks as the model it drafts for.
They may be dropped at any time: what is missing is computed again, a part in each step, so that a
long prompt delays nobody. Not covered: whether a draft is worth its price (`speculate`).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from collections.abc import Sequence as Seq
from dataclasses import dataclass, field

import torch

from lmstack.core import InputError
from lmstack.engine.blocks import BlockManager
from lmstack.engine.config import EngineConfig
from lmstack.engine.constraints.vocabulary import GrammarVocabulary
from lmstack.engine.decoding.sampler import rows_at
from lmstack.engine.executor import Executor, SequenceSpan
from lmstack.engine.executors import EXECUTORS, open_executor
from lmstack.engine.scratch import Scratch
from lmstack.engine.sequence import Sequence
from lmstack.model import Transformer

__all__ = ["DraftModel", "check_vocabularies"]

# Tokens of a text that it reads in one step before it drafts.
CATCH_UP = 256


def check_vocabularies(model: GrammarVocabulary, draft: GrammarVocabulary) -> None:
    """A draft is made of token ids, so they have to mean the same in both models."""
    ours, theirs = model.token_bytes, draft.token_bytes
    if len(ours) != len(theirs):
        found = f"has {len(theirs)} tokens, the model has {len(ours)}"
    else:
        differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]
        if not differ and model.special_ids == draft.special_ids:
            return
        first = differ[0] if differ else min(model.special_ids ^ draft.special_ids)
        found = f"has other tokens than the model, the first of them {first}"
    raise InputError(
        f"the draft model {found}",
        hint="use a smaller model of the same family, with the same tokenizer",
        param="draft",
    )


@dataclass
class _Read:
    """``count`` tokens of a sequence are in the blocks of ``table``, and after them ``tail``,
    which was drafted and may be wrong."""

    table: list[int] = field(default_factory=list)
    count: int = 0
    tail: list[int] = field(default_factory=list)

    def settle(self, tokens: Seq[int]) -> None:
        """Keep of the tail what the text has come to hold."""
        for token in self.tail:
            if self.count == len(tokens) or tokens[self.count] != token:
                break
            self.count += 1
        self.tail = []


class DraftModel:
    """Used by one thread. ``num_tokens``: tokens that may be drafted. ``seconds``: what drafting
    has taken in all; ``pass_s``: what one more token of a draft takes for one sequence, about."""

    def __init__(
        self,
        module: Transformer,
        config: EngineConfig,
        num_tokens: int,
        clock: Callable[[], float] = time.monotonic,
        executors: Seq[type[Executor]] = EXECUTORS,
    ) -> None:
        model = module.config
        causal = all(model.layer(i).causal for i in range(model.num_layers))
        if model.head != "lm" or not causal or model.encoder is not None:
            raise InputError(
                "the draft model does not generate text as a decoder",
                hint="use a language model of the same family",
                param="draft",
            )
        if model.vocab_size < num_tokens:
            raise InputError(
                f"the draft model has {model.vocab_size} tokens, the model {num_tokens}",
                hint="use a smaller model of the same family",
                param="draft",
            )
        self._executor, num_blocks = open_executor(module, config, executors)
        self._scratch = Scratch(self._executor.device)
        self._blocks = BlockManager(num_blocks, config.block_size, prefix_cache=False)
        self._config, self._num_tokens, self._clock = config, num_tokens, clock
        self._window = model.max_positions
        self._read: dict[Sequence, _Read] = {}
        self.seconds = 0.0
        self.pass_s = 0.0

    @property
    def num_blocks_used(self) -> int:
        return self._blocks.num_used

    def drop(self, *, all_of_them: bool = False) -> None:
        """Give back the blocks of sequences that are over (or wait again for theirs)."""
        for sequence in [s for s in self._read if all_of_them or not s.table]:
            self._blocks.release(self._read.pop(sequence).table)

    def propose(self, sequences: Seq[Sequence], count: int) -> dict[Sequence, tuple[int, ...]]:
        """A draft of ``count`` tokens for each of ``sequences`` that it has read to the end and
        that fits; others it reads on."""
        start = self._clock()
        self.drop()
        begun = [s for s in sequences if self._begin(s, count)]
        drafts = self._drafted(begun, count) if begun else {}
        self.seconds += self._clock() - start
        return drafts

    def _begin(self, sequence: Sequence, count: int) -> bool:
        """Make room for what is to be read and drafted now; whether there was any."""
        read = self._read.setdefault(sequence, _Read())
        read.settle(sequence.tokens)
        # The last token is always read: what follows it is the question.
        read.count = min(read.count, len(sequence.tokens) - 1)
        end = min(len(sequence.tokens), read.count + CATCH_UP) + count
        need = self._config.blocks_for(end) - len(read.table)
        if end > self._window or (need > 0 and not self._blocks.can_allocate(need)):
            return False
        if need > 0:
            self._blocks.allocate(read.table, need)
        return True

    @torch.inference_mode()
    def _drafted(self, sequences: Seq[Sequence], count: int) -> dict[Sequence, tuple[int, ...]]:
        spans: list[tuple[Sequence, list[int]]] = []
        for sequence in sequences:
            read = self._read[sequence]
            spans.append((sequence, sequence.tokens[read.count : read.count + CATCH_UP]))
        spans.sort(key=lambda span: len(span[1]) > 1)  # an executor wants single tokens first
        best = self._pass(spans)
        for sequence, ids in spans:
            self._read[sequence].count += len(ids)
        ready = [i for i, (s, _) in enumerate(spans) if self._read[s].count == len(s.tokens)]
        drafts = {spans[i][0]: [best[i]] for i in ready}
        for _ in range(count - 1 if drafts else 0):
            began = self._clock()
            step = [(s, [draft[-1]]) for s, draft in drafts.items()]
            following = self._pass(step)
            for (sequence, ids), token in zip(step, following, strict=True):
                self._read[sequence].tail += ids
                drafts[sequence].append(token)
            each = (self._clock() - began) / len(step)
            self.pass_s += 0.1 * (each - self.pass_s) if self.pass_s else each
        return {s: tuple(draft) for s, draft in drafts.items()}

    def _pass(self, parts: Seq[tuple[Sequence, list[int]]]) -> list[int]:
        """The likeliest token after each of the parts, which go on where they were read to."""
        ids: list[int] = []
        positions: list[int] = []
        spans, ends = [], []
        for sequence, tokens in parts:
            read = self._read[sequence]
            start = read.count + len(read.tail)
            spans.append(SequenceSpan(read.table, start, start + len(tokens)))
            ids += tokens
            positions += range(start, start + len(tokens))
            ends.append(len(ids) - 1)
        hidden = self._executor.hidden(ids, positions, spans, None)
        logits = self._executor.logits(rows_at(hidden, ends), self._scratch)
        return logits[:, : self._num_tokens].argmax(-1).tolist()
