"""Speculative decoding: compute drafted tokens before they are drawn, where that pays.

A stream that decodes has one token to compute, and a step for one token reads as many weights as
one for several. So a draft is computed behind it: what a grammar leaves no choice about
(`successors`), what prompt lookup finds (`ngram`), or what a smaller model says (`draft_model`).
The engine then draws
as if nothing had been drafted, one token after another, and goes on while what it draws is what
was drafted. A draw is a function of the seed, the place and the logits alone, so each token is the
very one that would have been drawn without a draft, whatever the rules; for a draft that is one
token with certainty this accepts as often as the scheme of Leviathan et al. (2023) can.

A draft is worth its price while its tokens come faster than tokens come in the long run, by the
rate at which such drafts were right lately and by what steps cost (`budget`). Not than in this
step: one with a good draft would then refuse what the next step has to compute. A step for many
streams is not bound by memory, so there drafts end by themselves. Drafts take only blocks that are
free, and give back at the end of a step what they did not need.

Not covered: beams and other searches, echoed prompts and steps that compute prompts: no drafts.
"""

from __future__ import annotations

import itertools
import logging
import operator
from collections.abc import Sequence as Seq
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from lmstack.engine.blocks import BlockManager
from lmstack.engine.config import EngineConfig
from lmstack.engine.policy.budget import StepBudget
from lmstack.engine.sequence import Sequence, SequenceChunk
from lmstack.engine.speculative.acceptance import Acceptance
from lmstack.engine.speculative.draft_model import DraftModel
from lmstack.engine.speculative.ngram import PromptLookup
from lmstack.engine.speculative.successors import StructureDrafts

__all__ = ["Speculation"]

log = logging.getLogger("lmstack.engine")

# A draft has to promise so much more than it costs, since both are estimates.
MARGIN = 1.5
# Steps of which tokens are counted.
MEMORY = 64
# A draft that no rate of being right could pay for is not looked for.
SUREST = 0.9
# Tokens after which a draft model that was not worth it is tried again, each time later.
PATIENCE, LONGEST_PATIENCE = 32, 512
# The rate that stands for every token of a draft model, whatever its place in the draft.
ANY = 4


class _State:
    """What is known about drafts for one sequence."""

    def __init__(
        self,
        sequence: Sequence,
        looked_up: Acceptance,
        modelled: Acceptance,
        forced: Acceptance,
    ) -> None:
        self.lookup = PromptLookup(sequence.encoder_ids)
        self.looked_up, self.modelled = Acceptance(looked_up), Acceptance(modelled)
        self.structure = StructureDrafts(Acceptance(forced))
        self.patience = PATIENCE
        self.tried_at = 0  # length of the output when the draft model was last asked
        self.stopped = False

    def wants_trial(self, sequence: Sequence) -> bool:
        return sequence.num_output - self.tried_at >= self.patience


@dataclass(frozen=True, slots=True)
class _Offer:
    """``rates``: of each token of the draft, to be right if all before it are. ``modelled``: by
    the draft model."""

    chunk: SequenceChunk
    draft: tuple[int, ...]
    rates: tuple[float, ...]
    modelled: bool = False

    @property
    def expected(self) -> float:
        """Tokens of it that will be right."""
        return float(sum(itertools.accumulate(self.rates, operator.mul)))


class _Worth:
    """Tokens a second in the long run, of streams such as those of ``chunks``. ``tokens_each``:
    that a stream gets from a step, about."""

    def __init__(
        self, budget: StepBudget, chunks: Seq[SequenceChunk], tokens_each: float = 1.0
    ) -> None:
        self._cost = budget.cost
        seconds = self._cost.seconds(len(chunks), len(chunks), sum(c.end for c in chunks))
        self._rate = tokens_each * len(chunks) / max(seconds, 1e-9)
        self._fixed = self._cost.seconds(0, 0, 0)

    def row(self, end: int) -> float:
        """Seconds of one more token at place ``end``."""
        return self._cost.seconds(1, 1, end) - self._fixed

    def least(self, seconds: float) -> float:
        """The rate of being right that a token for ``seconds`` must have."""
        return MARGIN * seconds * self._rate


class Speculation:
    """`extend` the chunks of a step with drafts, tell what was `accepted`, `settle` at its end.
    ``num_drafted``, ``num_accepted``: tokens since the start; ``drafting_s``: seconds that the
    draft model took in the last step."""

    def __init__(
        self,
        config: EngineConfig,
        blocks: BlockManager,
        budget: StepBudget,
        model: DraftModel | None = None,
    ) -> None:
        self._config, self._blocks, self._budget, self._model = config, blocks, budget, model
        self._looked_up, self._modelled = Acceptance(memory=256), Acceptance(memory=256)
        self._forced = Acceptance(memory=256)
        self._states: WeakKeyDictionary[Sequence, _State] = WeakKeyDictionary()
        self._by_model: set[int] = set()
        self.num_drafted = self.num_accepted = 0
        self.drafting_s = 0.0
        self._tokens_each = 1.0
        self._last = 0, 0  # streams of the last step, tokens accepted before it

    # -- before a step -------------------------------------------------------------------------

    def extend(self, chunks: list[SequenceChunk]) -> list[SequenceChunk]:
        """The chunks with drafts, those of one token first."""
        self.drafting_s = 0.0
        self._by_model.clear()
        if self._config.speculation == "off" or not chunks or any(c.count > 1 for c in chunks):
            return chunks
        self._count(len(chunks))
        offers = self._offers(chunks)
        if not offers:
            return chunks
        drafts = {id(o.chunk): self._placed(o) for o in offers}
        extended = [drafts.get(id(c), c) for c in chunks]
        extended.sort(key=lambda c: c.count > 1)
        return extended

    def _count(self, num_streams: int) -> None:
        """See how many tokens the streams of the last step got."""
        last, accepted = self._last
        if last:
            each = 1 + (self.num_accepted - accepted) / last
            self._tokens_each += (each - self._tokens_each) / MEMORY
        self._last = num_streams, self.num_accepted

    def _offers(self, chunks: Seq[SequenceChunk]) -> list[_Offer]:
        """The drafts that are worth their price."""
        worth = _Worth(self._budget, chunks, self._tokens_each)
        always = self._config.speculation == "always"
        if not always and worth.least(worth.row(0)) > SUREST:
            return []
        found: list[_Offer] = []
        others: list[_Offer] = []
        for chunk in filter(_decodes, chunks):
            least = 0.0 if always else worth.least(worth.row(chunk.end))
            offers = [self._structured_offer(chunk, least), self._ngram_offer(chunk)]
            best = max(filter(None, offers), key=lambda o: o.expected, default=None)
            if best is not None:
                (found if best.draft else others).append(best)
        if not always:
            found = _worthy(found, worth)
        if self._model is not None:
            kept = {id(o.chunk) for o in found}
            others = [o for o in others if id(o.chunk) not in kept]
            found += self._model_offers([o.chunk for o in others], worth, always=always)
        return found

    def _structured_offer(self, chunk: SequenceChunk, least: float) -> _Offer | None:
        """The draft of what the grammar leaves no choice about, and of usual choices between."""
        sequence, state = chunk.sequence, self._state(chunk.sequence)
        count = sequence.limit - 1 - chunk.end
        if sequence.matcher is None or count < 1 or state.stopped:
            return None
        state.structure.see(sequence.tokens, sequence.num_prompt)
        draft, rates = state.structure.follows(sequence.matcher, sequence.tokens, count, least)
        return _Offer(chunk, draft, rates) if draft else None

    def _ngram_offer(self, chunk: SequenceChunk) -> _Offer | None:
        """The draft by prompt lookup, empty where it finds none or the draft model is better;
        None where no draft is wanted."""
        sequence = chunk.sequence
        state = self._state(sequence)
        count = min(self._config.draft_tokens, sequence.limit - 1 - chunk.end)
        if count < 1 or state.stopped:
            return None
        state.lookup.extend(sequence.tokens, sequence.num_prompt, state.looked_up)
        draft = self._lawful(sequence, state.lookup.follows(count))
        length = state.lookup.length
        rates = tuple(state.looked_up.rate(length + i) for i in range(len(draft)))
        if self._model is not None and rates and rates[0] < state.modelled.rate(ANY):
            return _Offer(chunk, (), ())
        return _Offer(chunk, draft, rates)

    def _model_offers(
        self, chunks: Seq[SequenceChunk], worth: _Worth, *, always: bool
    ) -> list[_Offer]:
        """Drafts by the draft model, if its passes are worth their time as well."""
        assert self._model is not None
        asked = [c for c in chunks if always or self._is_promising(c, worth)]
        room = min((c.sequence.limit - 1 - c.end for c in asked), default=0)
        most = min(self._config.draft_tokens, room)
        depth = most if always else self._depth(asked, worth, most)
        if depth < 1:
            return []
        before = self._model.seconds
        try:
            drafts = self._model.propose([c.sequence for c in asked], depth)
        except Exception:
            log.exception("the draft model failed and is no longer asked")
            self._model.drop(all_of_them=True)
            self._model = None
            return []
        self.drafting_s = self._model.seconds - before
        offers = []
        for chunk in asked:
            self._state(chunk.sequence).tried_at = chunk.sequence.num_output
            draft = self._lawful(chunk.sequence, drafts.get(chunk.sequence, ()))
            if draft:
                offers.append(_Offer(chunk, draft, (), modelled=True))
        return offers

    def _is_promising(self, chunk: SequenceChunk, worth: _Worth) -> bool:
        assert self._model is not None
        state = self._state(chunk.sequence)
        price = worth.row(chunk.end) + self._model.pass_s
        if state.modelled.rate(ANY) > worth.least(price):
            state.patience = PATIENCE
            return True
        if not state.wants_trial(chunk.sequence):
            return False
        state.patience = min(2 * state.patience, LONGEST_PATIENCE)
        return True

    def _depth(self, chunks: Seq[SequenceChunk], worth: _Worth, most: int) -> int:
        """How many tokens the draft model should say: while the next still pays for all of them,
        and one to learn whether it does."""
        assert self._model is not None
        if not chunks:
            return 0
        rates = [self._state(c.sequence).modelled.rate(ANY) for c in chunks]
        price = sum(worth.row(c.end) + self._model.pass_s for c in chunks)
        for depth in range(1, most + 1):
            gain = sum(rate**depth for rate in rates)
            if depth > 1 and gain <= worth.least(price):
                return depth - 1
        return most

    def _placed(self, offer: _Offer) -> SequenceChunk:
        """The chunk with as much of the draft as there are free blocks for, and as a step may
        take while streams wait for its end."""
        chunk, table, budget = offer.chunk, offer.chunk.sequence.table, self._budget
        always = self._config.speculation == "always"
        draft = offer.draft[: budget.tokens_left if always else budget.spare(chunk.end)]
        need = self._config.blocks_for(chunk.end + len(draft)) - len(table)
        need = min(need, self._blocks.num_free)
        if need > 0:
            self._blocks.allocate(table, need)
        draft = draft[: len(table) * self._config.block_size - chunk.end]
        if not draft:
            return chunk
        if offer.modelled:
            self._by_model.add(id(chunk.sequence))
        budget.take(chunk.end, len(draft), drawn=True)
        self.num_drafted += len(draft)
        chunk.sequence.num_drafted += len(draft)
        return replace(chunk, end=chunk.end + len(draft), draft=draft)

    @staticmethod
    def _lawful(sequence: Sequence, draft: tuple[int, ...]) -> tuple[int, ...]:
        """As much of ``draft`` as the grammar lets through."""
        matcher = sequence.matcher
        return draft if matcher is None or not draft else draft[: matcher.admits(draft)]

    def _state(self, sequence: Sequence) -> _State:
        state = self._states.get(sequence)
        if state is None:
            state = _State(sequence, self._looked_up, self._modelled, self._forced)
            self._states[sequence] = state
        return state

    # -- after it ------------------------------------------------------------------------------

    @property
    def acceptance_rate(self) -> float:
        return self.num_accepted / max(1, self.num_drafted)

    def stop(self, sequence: Sequence) -> None:
        """No more drafts for it."""
        self._state(sequence).stopped = True

    def accepted(self, chunk: SequenceChunk) -> None:
        """A token of its draft was right."""
        self.num_accepted += 1
        chunk.sequence.num_accepted += 1

    def settle(self, chunk: SequenceChunk, num_accepted: int) -> None:
        """All of ``chunk`` that can be drawn is: of its draft so many tokens were right."""
        sequence = chunk.sequence
        if id(sequence) in self._by_model and sequence.table:
            rates = self._state(sequence).modelled
            for place in range(min(num_accepted + 1, len(chunk.draft))):
                rates.observe(ANY, place < num_accepted)
        self._trim(sequence)

    def without_draft(self, chunk: SequenceChunk) -> SequenceChunk:
        """The chunk as it was scheduled."""
        self._trim(chunk.sequence, chunk.known_end)
        return replace(chunk, end=chunk.known_end, draft=())

    def _trim(self, sequence: Sequence, end: int = 0) -> None:
        """Give back blocks that lie behind all that is computed, and behind ``end``."""
        needed = self._config.blocks_for(max(end, sequence.num_computed))
        surplus = sequence.table[needed:]
        del sequence.table[needed:]
        self._blocks.release(surplus)

    def rest(self) -> None:
        """Nobody runs: nothing is kept."""
        if self._model is not None:
            self._model.drop(all_of_them=True)


def _decodes(chunk: SequenceChunk) -> bool:
    sequence = chunk.sequence
    return chunk.samples and sequence.search is None and not sequence.needs_prompt_scores


def _worthy(offers: Seq[_Offer], worth: _Worth) -> list[_Offer]:
    """Of each draft as much as pays."""
    found = []
    for offer in offers:
        least = worth.least(worth.row(offer.chunk.end))
        chances = itertools.accumulate(offer.rates, operator.mul)
        count = sum(chance > least for chance in chances)  # which only fall
        if count:
            found.append(replace(offer, draft=offer.draft[:count]))
    return found
