"""Which tokens to compute in the next step.

Continuous batching: each step advances every stream by a token and spends what is left of its
budget (`budget`) on chunks of prompts, in the order of `fairness`. Where clients compete, each has
as many streams in every step as the one with fewest; the rest take turns, so that a step lasts no
longer because somebody has many. When blocks run out, the latest sequences are preempted: their
blocks are freed and they are computed again later. A client without a stream gets one even where
all places are taken; when it has waited long for blocks, or for more places, the latest stream or
search of the heaviest client is preempted.

No deadlock, because (1) the engine admits only requests that fit in the whole pool alone, all
members of a search counted as if they shared nothing, (2) the oldest running sequence may preempt
all that are not yet part of the step, and (3) no new one is admitted in a step in which a running
one lacked blocks. A member of a search that is computed waits without being computed again, so
the oldest search gets through its members one by one if it must. No livelock, because (4) a stream
is preempted only for a client that was served less, which is then served first.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator, MutableSequence
from collections.abc import Sequence as Seq
from dataclasses import dataclass

from lmstack.engine.blocks import BlockManager
from lmstack.engine.config import EngineConfig
from lmstack.engine.policy.budget import StepBudget
from lmstack.engine.policy.fairness import OUTPUT_TOKEN, PROMPT_TOKEN, Shares
from lmstack.engine.policy.prefixes import Prefixes
from lmstack.engine.sequence import Sequence, SequenceChunk

__all__ = ["Scheduler"]

# Of so many steps one begins with the oldest prompt and the others with the shortest.
OLDEST_EVERY = 4
# Steps that a client waits before a stream of the heaviest client is preempted for it.
PATIENCE = 20


@dataclass
class _Room:
    """What admission counts in one step. ``clients``: those with a stream. ``owed``: blocks that
    running sequences will still ask for to hold the tokens they have; ``coming``: names of those
    they are computing."""

    places: int
    clients: set[str]
    owed: int
    coming: set[bytes]


class Scheduler:
    """``holds``: no new request begins; those that have begun go on. ``running`` and ``waiting``
    are in order of arrival. ``copies``: the (block, block) to copy
    before the step that was scheduled last."""

    def __init__(self, config: EngineConfig, blocks: BlockManager) -> None:
        self._config, self._blocks = config, blocks
        self.budget = StepBudget(config.max_batch_tokens, config.target_step_s)
        self._shares = Shares(config.client_weights)
        self._prefixes = Prefixes(config, blocks)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self.copies: list[tuple[int, int]] = []
        self.num_preemptions = 0
        self.num_prefix_queries = 0
        self.num_prefix_hits = 0
        self._arrivals = self._num_steps = 0
        self._lacks_blocks = self._reserves = False
        self.holds = False

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def add(self, sequence: Sequence) -> None:
        sequence.order = self._arrivals
        # A search has the places of all its members in the order of arrival.
        self._arrivals += 1 if sequence.search is None else sequence.search.width
        sequence.hash_blocks(self._config.block_size, sequence.num_prompt)
        sequence.num_found = len(self._prefixes.whole(sequence)) * self._config.block_size
        active = {s.client for s in self.running} | {s.client for s in self.waiting}
        self._shares.join(sequence.client, active)
        sequence.since = self._num_steps
        self.waiting.append(sequence)

    def remove(self, sequence: Sequence, *, forget: bool = False) -> None:
        """Take a sequence out, finished or not, and free its blocks. ``forget``: its keys and
        values are not to be trusted, so nobody may find them again."""
        self._release(sequence, forget=forget)
        if sequence in self.running:
            self.running.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def replace(
        self, members: Seq[Sequence], children: Seq[tuple[Sequence, Sequence]]
    ) -> list[tuple[int, int]]:
        """Put ``children`` (each with its parent) in the places of ``members``. Full blocks are
        shared; one that a child will write to is copied, unless it inherits it: returns the
        (block, block) to copy. Where no block is left for a copy, the child computes that part
        again."""
        order = self.order_of(members)
        heirs: dict[int, list[Sequence]] = {}
        for number, (child, parent) in enumerate(children):
            child.order = order + number
            heirs.setdefault(id(parent), []).append(child)
        for member in members:
            if id(member) not in heirs:
                self.remove(member)
        copies: list[tuple[int, int]] = []
        for member in members:
            for number, child in enumerate(heirs.get(id(member), [])):
                if number:
                    copies += self._share(heirs[id(member)][0], child)
                else:
                    self._inherit(member, child)
        self.running.sort(key=lambda s: s.order)
        self.waiting.sort(key=lambda s: s.order)
        return copies

    @staticmethod
    def order_of(members: Seq[Sequence]) -> int:
        """The first of the places in the order of arrival that belong to a search."""
        return min(m.order for m in members)

    @staticmethod
    def _replaced(places: MutableSequence[Sequence], old: Sequence, new: Sequence) -> bool:
        for place, each in enumerate(places):
            if each is old:
                places[place] = new
                return True
        return False

    def _inherit(self, parent: Sequence, child: Sequence) -> None:
        """The child takes the blocks and the place of its parent."""
        child.table, parent.table = parent.table, []
        child.cross_table, parent.cross_table = parent.cross_table, []
        child.num_computed, child.num_published = parent.num_computed, parent.num_published
        if not self._replaced(self.running, parent, child):
            self._replaced(self.waiting, parent, child)

    def _share(self, first: Sequence, child: Sequence) -> list[tuple[int, int]]:
        """The child shares the blocks of its parent, which its ``first`` child has inherited."""
        if first in self.waiting:
            self.waiting.append(child)
            return []
        self.running.append(child)
        full = first.num_computed // self._config.block_size
        rest = first.num_computed > full * self._config.block_size
        copied = rest and self._blocks.can_allocate(1)
        self._blocks.allocate(child.table, int(copied), first.table[:full])
        self._blocks.allocate(child.cross_table, 0, first.cross_table)
        child.num_published = full
        child.num_computed = first.num_computed if copied else full * self._config.block_size
        return [(first.table[full], child.table[full])] if copied else []

    def schedule(self) -> list[SequenceChunk]:
        """The chunks of the next step, those of one token first. Their blocks are allocated;
        nothing else about the sequences changes until `computed`."""
        self._num_steps += 1
        self.copies = []
        if self.waiting:
            self._preempt_heaviest()
        self._lacks_blocks = False
        chunks, starved = self._decodes()
        if self.waiting or len(chunks) < len(self.running):
            num_decoding = len(chunks)
            self._prompts(chunks, starved)
            if len(chunks) > num_decoding:
                chunks.sort(key=lambda c: c.count > 1)
        return chunks

    def _decodes(self) -> tuple[list[SequenceChunk], bool]:
        """A token for every stream that is `_in_step`, and whether any lacked a block."""
        chunks: list[SequenceChunk] = []
        size = self._config.block_size
        starved, places = False, 0
        for sequence in self._in_step():
            start, end = sequence.num_computed, len(sequence.tokens)
            if starved and sequence not in self.running:  # preempted in this very step
                continue
            if end > len(sequence.table) * size:
                reached, lacked = self._make_room(sequence, end, chunks)
                starved |= lacked
                if reached < end:
                    continue
            chunks.append(SequenceChunk(sequence, start, end))
            self._shares.charge(sequence.client, OUTPUT_TOKEN)
            sequence.since = self._num_steps
            places += end
        self.budget.begin(len(chunks), places)
        return chunks, starved

    def _in_step(self) -> Iterator[Sequence]:
        """The streams whose next token should be computed now: all of one client; of several, as
        many of each as that with the fewest has, and others in turn while the step is short."""
        streams = Counter(s.client for s in self.running)
        clients = streams.keys() | {s.client for s in self.waiting}
        decoding = [s for s in self.running if s.num_pending == 1]
        if len(clients) < 2:
            yield from decoding
            return
        fewest = min(max(1, streams[client]) for client in clients)
        taken: Counter[str] = Counter()
        num_taken = places = 0
        for sequence in self._shares.in_rotation(decoding):
            reach = places + len(sequence.tokens)
            if taken[sequence.client] < fewest or self.budget.is_within_target(
                num_taken + 1, reach
            ):
                taken[sequence.client] += 1
                num_taken, places = num_taken + 1, reach
                yield sequence

    def _prompts(self, chunks: list[SequenceChunk], starved: bool) -> None:
        """Add chunks of prompts, of running and of waiting sequences, while the budget lasts."""
        candidates = [s for s in self.running if s.num_pending > 1]
        room = self._room() if self.waiting and not starved else None
        if room is not None:
            candidates += [s for s in self._may_begin() if self._has_place(s, room)]
        # One that there was no room for comes first until there is: others would take it.
        by_age = self._reserves or self._num_steps % OLDEST_EVERY == 0
        self._reserves = False
        num_decoding = len(chunks)
        for sequence in self._shares.in_turn(candidates, by_age=by_age):
            is_cut = sequence.num_pending - sequence.num_found > self.budget.tokens_left
            if is_cut and any(c.samples and c.sequence.client != sequence.client for c in chunks):
                self.budget.hurry()  # a line of one client is not to wait for another's book
            if not self.budget.fits(0):
                return
            if sequence in self.running:
                end = sequence.num_computed + self.budget.fits(sequence.num_computed)
                end, lacked = self._make_room(sequence, min(end, len(sequence.tokens)), chunks)
                room = None if lacked else room
                if end > sequence.num_computed:
                    self._take(chunks, SequenceChunk(sequence, sequence.num_computed, end))
            elif room is not None and not self._admit(sequence, room, chunks, num_decoding):
                room = None
                self._reserves = by_age and self._num_steps - sequence.since > PATIENCE

    def _may_begin(self) -> list[Sequence]:
        return [s for s in self.waiting if s.has_begun] if self.holds else self.waiting

    @property
    def has_begun(self) -> bool:
        """Whether anything of a request has been computed that is not over."""
        return bool(self.running) or any(s.has_begun for s in self.waiting)

    def forget_prefixes(self) -> None:
        """Nothing computed so far may be found again. Only while nothing `has_begun`."""
        self._blocks.reset()
        for sequence in self.waiting:
            sequence.num_found = 0

    def _take(self, chunks: list[SequenceChunk], chunk: SequenceChunk) -> None:
        chunks.append(chunk)
        self.budget.take(chunk.start, chunk.count)
        if chunk.sequence.num_output == 0:  # else it was charged for before a preemption
            self._shares.charge(chunk.sequence.client, chunk.count * PROMPT_TOKEN)

    def _preempt_heaviest(self) -> None:
        """Where a client has waited long for places or blocks, and the heaviest client was served
        more, preempt the latest stream of that one."""
        if not self._lacks_blocks and self._places() < self._config.max_sequences:
            return
        streams = Counter(s.client for s in self.running)
        heaviest = self._shares.heaviest(streams)
        oldest = self._num_steps - PATIENCE
        late = [
            s
            for s in self._may_begin()
            if s.since < oldest and not s.is_parked and self._shares.is_behind(s.client, heaviest)
        ]
        first = next(self._shares.in_turn(late, by_age=True), None)
        if first is not None and self._shares.may_take(streams, heaviest, first.client):
            latest = next(s for s in reversed(self.running) if s.client == heaviest)
            whole = latest.search is not None and not self._lacks_blocks
            # A search keeps its places while any of its members runs.
            for each in [s for s in self.running if whole and s.search is latest.search] or [
                latest
            ]:
                self._preempt(each)

    def computed(self, chunk: SequenceChunk) -> None:
        """The keys and values of ``chunk`` are in its blocks: publish those now full."""
        sequence = chunk.sequence
        if sequence.encoder_ids and not sequence.is_encoded:
            sequence.is_encoded = True
            self._prefixes.publish_crossed(sequence)
        sequence.num_computed = chunk.known_end
        self._prefixes.publish(sequence)

    def start_again(self, sequence: Sequence) -> None:
        """Compute anew what is not published."""
        sequence.num_computed = sequence.num_published * self._config.block_size

    def accepted(self, sequence: Sequence) -> None:
        """The first token of a draft was right, so its keys and values are computed."""
        sequence.num_computed += 1
        self._prefixes.publish(sequence)
        self._shares.charge(sequence.client, OUTPUT_TOKEN)

    def _make_room(
        self, sequence: Sequence, end: int, chunks: list[SequenceChunk]
    ) -> tuple[int, bool]:
        """Blocks for tokens up to ``end``, preempting later sequences that are not part of the
        step; how far they reach, and whether any were lacking."""
        lacked = False
        need = self._config.blocks_for(end) - len(sequence.table)
        while need > 0 and not self._blocks.can_allocate(need):
            lacked = True
            victim = self.running[-1]
            if victim is sequence or any(c.sequence is victim for c in chunks):
                need = min(need, self._blocks.num_free)
                break
            self._preempt(victim)
        if need > 0:
            self._blocks.allocate(sequence.table, need)
        return min(end, len(sequence.table) * self._config.block_size), lacked

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.num_found, sequence.since = sequence.num_computed, self._num_steps
        sequence.num_computed = sequence.num_published = 0
        sequence.is_encoded = False
        bisect.insort(self.waiting, sequence, key=lambda s: s.order)
        self.num_preemptions += 1

    def _room(self) -> _Room:
        running, blocks_for = self.running, self._config.blocks_for
        owed = sum(max(0, blocks_for(len(s.tokens)) - len(s.table)) for s in running)
        coming = {h for s in running if s.num_pending > 1 for h in self._prefixes.coming(s)}
        return _Room(self._places(), {s.client for s in running}, owed, coming)

    def _has_place(self, sequence: Sequence, room: _Room) -> bool:
        """Among the streams that run at once; a client's first one always has, so that nobody
        waits until another's long answers are over. Blocks bound how many clients that can be."""
        width = self._width(sequence)
        if not width or room.places + width <= self._config.max_sequences:
            return True
        return width == 1 and sequence.client not in room.clients

    def _admit(
        self, sequence: Sequence, room: _Room, chunks: list[SequenceChunk], num_decoding: int
    ) -> bool:
        """Start a waiting sequence if there is room; whether others may be asked after it."""
        if sequence.is_parked:
            return True
        if not self._has_place(sequence, room):
            return False
        shared = self._prefixes.whole(sequence)
        if self._prefixes.is_coming(sequence, len(shared), room.coming):
            return True
        total = self._config.blocks_for(min(len(sequence.tokens) + 1, sequence.limit))
        crossed = self._prefixes.crossed(sequence, self.running)
        new = 0 if crossed else self._config.blocks_for(len(sequence.encoder_ids))
        asked = total - len(shared) + new + room.owed
        if not self._blocks.can_allocate(asked, [*shared, *crossed]):
            self._lacks_blocks = True
            return False
        # An encoder reads its input at once: one longer than the budget has a step alone.
        cost = len(sequence.encoder_ids) if new else 0
        if cost >= self.budget.fits(0) and len(chunks) > num_decoding:
            return False
        self._blocks.allocate(sequence.cross_table, new, crossed)
        if cost:
            self.budget.take(0, cost)
        width = self._width(sequence)
        self._start(sequence, shared, chunks)
        room.places += width
        room.clients.add(sequence.client)
        room.owed += max(0, total - len(sequence.table))
        room.coming.update(self._prefixes.coming(sequence))
        return True

    def _places(self) -> int:
        """Streams that run or may come to run: a search counts with its full width."""
        searches = {id(s.search): s.search.width for s in self.running if s.search is not None}
        return sum(s.search is None for s in self.running) + sum(searches.values())

    def _width(self, sequence: Sequence) -> int:
        """Places that ``sequence`` needs beside those that its search has already."""
        search = sequence.search
        if search is None:
            return 1
        return 0 if any(s.search is search for s in self.running) else search.width

    def _start(self, sequence: Sequence, shared: list[int], chunks: list[SequenceChunk]) -> None:
        self.waiting.remove(sequence)
        bisect.insort(self.running, sequence, key=lambda s: s.order)
        source, part = self._prefixes.part(sequence, len(shared))
        start = len(shared) * self._config.block_size + part
        end = min(len(sequence.tokens), start + max(1, self.budget.fits(start)))
        if part:
            self._blocks.touch(source)
        self._blocks.allocate(sequence.table, self._config.blocks_for(end) - len(shared), shared)
        if part:
            self.copies.append((source, sequence.table[len(shared)]))
        sequence.num_computed, sequence.num_found = start, 0
        sequence.num_published = len(shared)
        if sequence.cached_tokens is None:
            sequence.cached_tokens = len(sequence.encoder_ids) if sequence.is_encoded else start
            self.num_prefix_queries += sequence.num_input
            self.num_prefix_hits += sequence.cached_tokens
        self._take(chunks, SequenceChunk(sequence, start, end))

    def _release(self, sequence: Sequence, *, forget: bool = False) -> None:
        self._blocks.release(sequence.table, forget=forget)
        self._blocks.release(sequence.cross_table, forget=forget)
