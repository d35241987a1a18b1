"""One request on its way through the engine: its tokens, its blocks, its state.

Everything that must survive preemption lives here and not in the KV pool: tokens, grammar and
stop matchers, counts for penalties, the seed.
"""

from __future__ import annotations

import secrets
import time
from collections import Counter
from dataclasses import dataclass

from lmstack.core import FinishReason
from lmstack.engine.blocks import chain_hash
from lmstack.engine.grammar import GrammarMatcher
from lmstack.engine.request import EngineRequest, TokenScore
from lmstack.engine.stops import StopMatcher
from lmstack.engine.vocabulary import Vocabulary

__all__ = ["Chunk", "Sequence"]


class Sequence:
    """``tokens``: prompt, then output. ``num_computed``: how many of them, from the start, have
    keys and values in the blocks of ``table``. ``limit``: length at which it must end."""

    def __init__(
        self,
        request: EngineRequest,
        vocabulary: Vocabulary,
        limit: int,
        matcher: GrammarMatcher | None = None,
    ) -> None:
        self.request = request
        self.vocabulary = vocabulary
        self.limit = limit
        self.matcher = matcher
        self.tokens = list(request.prompt_ids)
        self.num_prompt = len(self.tokens)
        self.num_computed = 0
        self.table: list[int] = []
        self.hashes: list[bytes] = []
        self.num_published = 0
        self.cached_tokens: int | None = None
        self.order = -1
        self.output_counts: Counter[int] = Counter()
        self.stops = StopMatcher([s.encode() for s in request.sampling.stop])
        self.created = time.monotonic()
        self.prompt_scores: list[TokenScore] = []
        if request.scores_prompt:
            self.prompt_scores.append(TokenScore(self.tokens[0], None))
        seed = request.sampling.seed
        self.seed = secrets.randbits(64) if seed is None else seed % 2**64

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def num_pending(self) -> int:
        """Tokens whose keys and values are not computed; 1 while decoding."""
        return len(self.tokens) - self.num_computed

    @property
    def needs_prompt_scores(self) -> bool:
        return self.request.scores_prompt and len(self.prompt_scores) < self.num_prompt

    def hash_blocks(self, block_size: int, num_tokens: int) -> None:
        """Extend ``hashes`` to every full block of the first ``num_tokens``."""
        for i in range(len(self.hashes), num_tokens // block_size):
            parent = self.hashes[-1] if self.hashes else b""
            self.hashes.append(
                chain_hash(parent, self.tokens[i * block_size : (i + 1) * block_size])
            )

    def append(self, token: int) -> FinishReason | None:
        """Take the sampled ``token`` in; the reason if it is the last."""
        self.tokens.append(token)
        self.output_counts[token] += 1
        reason = self._ending(token)
        if reason is not None:
            self.stops.finish()
        return reason

    def _ending(self, token: int) -> FinishReason | None:
        request = self.request
        if self.matcher is not None:
            self.matcher.accept(token)
        if token in request.stop_ids:
            return "stop"
        # A grammar lets an end through only where the text is whole, so it is obeyed always.
        if token in self.vocabulary.eos_ids and not (
            request.sampling.ignore_eos and self.matcher is None
        ):
            return "stop"
        if self.stops.push(self.vocabulary.token_bytes[token]):
            return "stop"
        if self.matcher is not None and self.matcher.finished:
            return "stop"
        return "length" if len(self.tokens) >= self.limit else None


@dataclass(frozen=True, slots=True)
class Chunk:
    """Tokens ``start`` to ``end`` of a sequence, computed in one step."""

    sequence: Sequence
    start: int
    end: int

    @property
    def count(self) -> int:
        return self.end - self.start

    @property
    def samples(self) -> bool:
        """Whether a next token follows from this chunk."""
        return self.end == len(self.sequence.tokens)
