"""Which tokens to compute in the next step.

Continuous batching: each step advances every stream by a token and spends what is left of the
token budget on chunks of prompts, the oldest first. When blocks run out, the latest sequences
are preempted: their blocks are freed and they are computed again later.

No deadlock, because (1) the engine admits only requests that fit in the whole pool alone, all
members of a search counted as if they shared nothing, (2) the oldest running sequence may preempt
all that are not yet part of the step, and (3) no new one is admitted in a step in which a running
one lacked blocks. A member of a search that is computed waits without being computed again, so
the oldest search gets through its members one by one if it must.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence
from collections.abc import Sequence as Seq

from lmstack.engine.blocks import BlockManager, cross_hashes
from lmstack.engine.config import EngineConfig
from lmstack.engine.sequence import Chunk, Sequence

__all__ = ["Scheduler"]


class Scheduler:
    """``running`` is in order of arrival. ``waiting`` too; preempted sequences return to its
    front, which is their place."""

    def __init__(self, config: EngineConfig, blocks: BlockManager) -> None:
        self._config, self._blocks = config, blocks
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.num_preemptions = 0
        self.num_prefix_queries = 0
        self.num_prefix_hits = 0
        self._arrivals = 0

    @property
    def idle(self) -> bool:
        return not self.running and not self.waiting

    def add(self, sequence: Sequence) -> None:
        sequence.order = self._arrivals
        # A search has the places of all its members in the order of arrival.
        self._arrivals += 1 if sequence.search is None else sequence.search.width
        sequence.hash_blocks(self._config.block_size, sequence.num_prompt)
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
        self.waiting = deque(sorted(self.waiting, key=lambda s: s.order))
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

    def schedule(self) -> list[Chunk]:
        """The chunks of the next step, decodes first. Their blocks are allocated; nothing else
        about the sequences changes until `computed`."""
        chunks: list[Chunk] = []
        taken: set[int] = set()
        budget = self._config.max_batch_tokens
        starved = False
        for sequence in sorted(self.running, key=lambda s: (s.num_pending > 1, s.order)):
            if budget == 0:
                break
            if sequence not in self.running:  # preempted by an older one just now
                continue
            end = sequence.num_computed + min(sequence.num_pending, budget)
            end, lacked = self._make_room(sequence, end, taken)
            starved |= lacked
            if end > sequence.num_computed:
                chunks.append(Chunk(sequence, sequence.num_computed, end))
                taken.add(sequence.order)
                budget -= end - sequence.num_computed
        if not starved:
            self._admit(chunks, budget)
        return chunks

    def computed(self, chunk: Chunk) -> None:
        """The keys and values of ``chunk`` are in its blocks: publish those now full."""
        sequence, size = chunk.sequence, self._config.block_size
        if sequence.encoder_ids and not sequence.is_encoded:
            sequence.is_encoded = True
            names = cross_hashes(sequence.origin, len(sequence.cross_table))
            for block, name in zip(sequence.cross_table, names, strict=True):
                self._blocks.publish(block, name)
        sequence.num_computed = chunk.end
        sequence.hash_blocks(size, chunk.end)
        for i in range(sequence.num_published, chunk.end // size):
            self._blocks.publish(sequence.table[i], sequence.hashes[i])
        sequence.num_published = chunk.end // size

    def _make_room(self, sequence: Sequence, end: int, taken: set[int]) -> tuple[int, bool]:
        """Blocks for tokens up to ``end``, preempting later sequences that are not ``taken``;
        how far they reach, and whether any were lacking."""
        lacked = False
        need = self._config.blocks_for(end) - len(sequence.table)
        while need > 0 and not self._blocks.can_allocate(need):
            lacked = True
            victim = self.running[-1]
            if victim.order in taken or victim is sequence:
                need = min(need, self._blocks.num_free)
                break
            self._preempt(victim)
        if need > 0:
            self._blocks.allocate(sequence.table, need)
        return min(end, len(sequence.table) * self._config.block_size), lacked

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._release(sequence)
        sequence.num_computed = sequence.num_published = 0
        sequence.is_encoded = False
        self.waiting.appendleft(sequence)
        self.num_preemptions += 1

    def _admit(self, chunks: list[Chunk], budget: int) -> None:
        """Start waiting sequences while budget, places and blocks last, in order."""
        if not self.waiting or budget == 0:
            return
        # Blocks that running sequences will still ask for to hold the tokens they have.
        owed = sum(
            max(0, self._config.blocks_for(len(s.tokens)) - len(s.table)) for s in self.running
        )
        coming = {h for s in self.running if s.num_pending > 1 for h in self._unpublished(s)}
        places, num_decoding = self._places(), len(chunks)
        for sequence in list(self.waiting):
            if budget == 0:
                return
            if sequence.is_parked:
                continue
            if places + self._width(sequence) > self._config.max_sequences:
                return
            shared = self._shared(sequence)
            if self._is_coming(sequence, len(shared), coming):
                continue
            total = self._config.blocks_for(min(len(sequence.tokens) + 1, sequence.limit))
            crossed = self._crossed(sequence)
            new = 0 if crossed else self._config.blocks_for(len(sequence.encoder_ids))
            if not self._blocks.can_allocate(total - len(shared) + new + owed, [*shared, *crossed]):
                return
            # An encoder reads its input at once: one longer than the budget has a step alone.
            cost = len(sequence.encoder_ids) if new else 0
            if cost >= budget and len(chunks) > num_decoding:
                return
            self._blocks.allocate(sequence.cross_table, new, crossed)
            budget = max(1, budget - cost)
            places += self._width(sequence)
            chunk = self._start(sequence, shared, budget)
            chunks.append(chunk)
            budget -= chunk.count
            owed += max(0, total - len(sequence.table))
            coming.update(self._unpublished(sequence))

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

    def _start(self, sequence: Sequence, shared: list[int], budget: int) -> Chunk:
        self.waiting.remove(sequence)
        self.running.append(sequence)
        self.running.sort(key=lambda s: s.order)
        start = len(shared) * self._config.block_size
        end = min(len(sequence.tokens), start + budget)
        self._blocks.allocate(sequence.table, self._config.blocks_for(end) - len(shared), shared)
        sequence.num_computed = start
        sequence.num_published = len(shared)
        if sequence.cached_tokens is None:
            sequence.cached_tokens = len(sequence.encoder_ids) if sequence.is_encoded else start
            self.num_prefix_queries += sequence.num_input
            self.num_prefix_hits += sequence.cached_tokens
        return Chunk(sequence, start, end)

    def _shared(self, sequence: Sequence) -> list[int]:
        """Cached blocks to start from; at least one token is left to compute."""
        if sequence.needs_whole_prompt:
            return []
        usable = (len(sequence.tokens) - 1) // self._config.block_size
        return self._blocks.match(sequence.hashes[:usable])

    def _crossed(self, sequence: Sequence) -> list[int]:
        """Blocks with what an encoder made, or is about to make, of the same input."""
        if not sequence.encoder_ids:
            return []
        for other in self.running:
            if other.origin == sequence.origin and other.cross_table:
                sequence.is_encoded = other.is_encoded
                return other.cross_table
        count = self._config.blocks_for(len(sequence.encoder_ids))
        found = self._blocks.match(cross_hashes(sequence.origin, count))
        sequence.is_encoded = len(found) == count
        return found if sequence.is_encoded else []

    def _release(self, sequence: Sequence, *, forget: bool = False) -> None:
        self._blocks.release(sequence.table, forget=forget)
        self._blocks.release(sequence.cross_table, forget=forget)

    def _unpublished(self, sequence: Sequence) -> list[bytes]:
        if not self._config.prefix_cache:
            return []
        return sequence.hashes[sequence.num_published :]

    def _is_coming(self, sequence: Sequence, num_shared: int, coming: set[bytes]) -> bool:
        """Whether a running sequence is computing the very next block that this one needs, so
        that waiting for it is cheaper than computing it twice (several choices of a prompt)."""
        usable = (len(sequence.tokens) - 1) // self._config.block_size
        return (
            num_shared < min(usable, len(sequence.hashes))
            and not sequence.needs_whole_prompt
            and sequence.hashes[num_shared] in coming
        )
