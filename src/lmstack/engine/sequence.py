"""One request on its way through the engine: its tokens, its blocks, its state.

Mostly that is one `Sequence`. Where several are computed to find one text (beams, candidates), a
`Search` holds them: each is computed like any other sequence, at its own time; once all are, the
search decides which go on.

Everything that must survive preemption lives here and not in the KV pool: tokens, grammar and
stop matchers, counts for penalties, the seed.
"""

from __future__ import annotations

import copy
import secrets
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence as Seq
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from lmstack.core import FinishReason
from lmstack.engine.blocks import adapted_hash, chain_hash, input_hash, scoped_hash
from lmstack.engine.constraints.grammar import GrammarMatcher
from lmstack.engine.constraints.patterns import PatternMatcher
from lmstack.engine.constraints.stops import StopMatcher
from lmstack.engine.constraints.vocabulary import GrammarVocabulary
from lmstack.engine.request import EngineRequest, TokenEvent, TokenScore

__all__ = ["Search", "SearchRound", "Sequence", "SequenceChunk"]


class Sequence:
    """``tokens``: prompt, then output. ``num_computed``: how many of them, from the start, have
    keys and values in the blocks of ``table``. ``limit``: length at which it must end.

    ``encoder_ids``: what the encoder reads, whose keys and values are in the blocks of
    ``cross_table`` once it ``is_encoded``. ``rope_length``: that of its rotary scaling, where
    it depends on one. ``search``: what decides on its tokens together with those of
    others, None where they are its own affair. ``processors``: its logits processors, once they
    are chosen. ``num_found``: tokens that the cache held when it began to wait; ``since``: the
    step from which it waits, for a place or for its next token."""

    def __init__(
        self,
        request: EngineRequest,
        vocabulary: GrammarVocabulary,
        limit: int,
        matcher: GrammarMatcher | None = None,
        pattern: PatternMatcher | None = None,
        rope_length: int | None = None,
    ) -> None:
        self.request = request
        self.client, self.priority = request.client, request.sampling.priority
        self.vocabulary = vocabulary
        self.limit = limit
        self.matcher = matcher
        self.rope_length = rope_length
        self.encoder_ids = request.prompt_ids if request.decoder_ids else ()
        self.cross_table: list[int] = []
        self.is_encoded = False
        self.tokens = list(request.decoder_ids or request.prompt_ids)
        self.num_prompt = len(self.tokens)
        # Keys of equal tokens differ with the encoder's input, the length of rotation and the
        # adapter.
        self.origin = input_hash(self.encoder_ids) if self.encoder_ids else b""
        if rope_length is not None:
            self.origin += rope_length.to_bytes(8, "little")
        if request.adapter is not None:
            self.origin = adapted_hash(request.adapter.digest, self.origin)
        if request.cache_scope:
            self.origin = scoped_hash(request.cache_scope, self.origin)
        self.num_computed = 0
        self.table: list[int] = []
        self.hashes: list[bytes] = []
        self.num_published = 0
        self.cached_tokens: int | None = None
        self.num_found = self.since = 0
        self.num_drafted = self.num_accepted = 0
        self.order = -1
        self.output_counts: Counter[int] = Counter()
        self.stops = StopMatcher([s.encode() for s in request.sampling.stop], pattern)
        self.search: Search | None = None
        self.ending: FinishReason | None = None
        self.scores: list[TokenScore | None] = []
        self.processors: Any = None
        self.created = time.monotonic()
        self.prompt_scores: list[TokenScore] = []
        self.target_scores: tuple[TokenScore, ...] = ()
        if request.scores_prompt:
            # Where nothing else is asked for, at least the last token is scored.
            most = self.num_prompt - (not request.targets)
            unscored = self.tokens[: max(1, min(request.score_from, most))]
            self.prompt_scores += [TokenScore(token, None) for token in unscored]
        seed = request.sampling.seed
        self.seed = secrets.randbits(64) if seed is None else seed % 2**64

    @property
    def num_output(self) -> int:
        return len(self.tokens) - self.num_prompt

    @property
    def num_input(self) -> int:
        """Tokens that were given: the encoder's where there is one."""
        return len(self.encoder_ids) or self.num_prompt

    @property
    def has_begun(self) -> bool:
        """Whether a step has ever been spent on it."""
        return self.cached_tokens is not None

    @property
    def num_pending(self) -> int:
        """Tokens whose keys and values are not computed; 1 while decoding."""
        return len(self.tokens) - self.num_computed

    @property
    def needs_prompt_scores(self) -> bool:
        return self.request.scores_prompt and len(self.prompt_scores) < self.num_prompt

    @property
    def is_read(self) -> bool:
        """Whether it generates nothing, and all that it asked for is known."""
        return bool(self.target_scores)

    @property
    def scored_places(self) -> range:
        """Those whose logits are still wanted, to score tokens that were given."""
        last = self.num_prompt - 1
        end = last + bool(self.request.targets)
        return range(len(self.prompt_scores) - 1 if self.needs_prompt_scores else last, end)

    def scored_after(self, place: int) -> Seq[int]:
        """The tokens to score by the logits at ``place``."""
        following = self.tokens[place + 1 : place + 2]
        return following if place < self.num_prompt - 1 else self.request.targets

    def take_scores(self, found: Seq[Seq[TokenScore]]) -> None:
        """``found``: at each of the next of `scored_places`."""
        for scores in found:
            if self.needs_prompt_scores:
                self.prompt_scores += scores
            else:
                self.target_scores = tuple(scores)

    @property
    def num_reusable(self) -> int:
        """Of how many tokens the known keys are enough: each place from which something is made
        has to be computed."""
        return (len(self.prompt_scores) if self.needs_prompt_scores else len(self.tokens)) - 1

    @property
    def is_parked(self) -> bool:
        """Computed and waiting for the others of its search."""
        return self.search is not None and self.search.has(self)

    def fork(self, token: int) -> Self:
        """A copy that goes on with ``token``. It has no blocks yet."""
        child = copy.copy(self)
        child.tokens, child.hashes = self.tokens.copy(), self.hashes.copy()
        child.output_counts, child.scores = self.output_counts.copy(), self.scores.copy()
        child.matcher = None if self.matcher is None else self.matcher.fork()
        child.stops = self.stops.fork()
        child.table, child.cross_table = [], []
        child.num_computed = child.num_published = 0
        child.ending = child.append(token)
        return child

    def hash_blocks(self, block_size: int, num_tokens: int) -> None:
        """Extend ``hashes`` to every full block of the first ``num_tokens``."""
        for i in range(len(self.hashes), num_tokens // block_size):
            parent = self.hashes[-1] if self.hashes else self.origin
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

    def event(
        self, place: int, score: TokenScore | None, ending: FinishReason | None, choice: int = 0
    ) -> TokenEvent:
        """That of the output's token at ``place``; with the last one comes ``ending``."""
        is_last = place == self.num_output - 1
        return TokenEvent(
            request_id=self.request.id,
            token=self.tokens[self.num_prompt + place],
            score=score,
            safe_bytes=self.stops.safe_bytes if is_last else 0,
            finish_reason=ending if is_last else None,
            cached_tokens=self.cached_tokens or 0,
            prompt=() if place else tuple(self.prompt_scores),
            choice=choice,
            drafted_tokens=self.num_drafted,
            accepted_tokens=self.num_accepted,
        )

    def read_event(self) -> TokenEvent:
        """The only one of a sequence that `is_read`."""
        return TokenEvent(
            request_id=self.request.id,
            finish_reason="length",
            cached_tokens=self.cached_tokens or 0,
            prompt=tuple(self.prompt_scores),
            targets=self.target_scores,
        )

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
class SequenceChunk:
    """Tokens ``start`` to ``end`` of a sequence, computed in one step. The last of them are the
    ``draft``: tokens that may come next, and are not the sequence's yet."""

    sequence: Sequence
    start: int
    end: int
    draft: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        return self.end - self.start

    @property
    def samples(self) -> bool:
        """Whether a next token follows from this chunk."""
        return self.known_end == len(self.sequence.tokens) and not self.sequence.request.targets

    @property
    def known_end(self) -> int:
        """Where the sequence's own tokens end, as long as none of the draft is."""
        return self.end - len(self.draft)

    def is_right(self, place: int) -> bool:
        """Whether the sequence has come to have the token at ``place`` of the draft."""
        return (
            place < len(self.draft)
            and self.sequence.tokens[self.known_end + place] == self.draft[place]
        )


@dataclass(frozen=True)
class SearchRound:
    """What a search decided: ``children`` (each with the member that it goes on from) replace
    its members; none are left when it is over. ``events`` are to be sent."""

    children: list[tuple[Sequence, Sequence]]
    events: list[TokenEvent]


class Search(ABC):
    """``members``: what is being computed; ``width``: how many there can be. ``offers``: what may
    follow each member, by its id."""

    width: int

    def __init__(self, root: Sequence) -> None:
        self.root = root
        self.members = [root]
        self.offers: dict[int, Any] = {}
        root.search = self

    def has(self, sequence: Sequence) -> bool:
        """Whether ``offer`` has been called for this member."""
        return id(sequence) in self.offers

    @abstractmethod
    def offer(self, sequence: Sequence, raw: Tensor, adjusted: Tensor, /) -> None:
        """What may follow ``sequence``: ``raw`` and ``adjusted`` log-probabilities (V,) after its
        last token. Calling it twice changes nothing."""

    @property
    def is_ready(self) -> bool:
        return all(self.has(member) for member in self.members)

    @abstractmethod
    def advance(self) -> SearchRound:
        """Decide, once `is_ready`. ``members`` are then the children."""
