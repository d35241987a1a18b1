"""The pool of KV blocks: who holds which, and which finished contents may be found again.

A block is `block_size` slots for the keys and values of consecutive tokens. It is *used* while
a sequence holds it, *cached* when its contents are known under the hash of everything up to
its end, and both or neither. Unused blocks are given out empty ones first, then cached ones
from the least recently used. A block of which only the beginning is wanted can be found too, to
be copied.

Not covered: the memory itself (the runner's) and when to ask (the scheduler's).
"""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

__all__ = [
    "BlockManager",
    "adapted_hash",
    "chain_hash",
    "cross_hashes",
    "input_hash",
    "scoped_hash",
]

# Of the blocks that begin alike, the latest are looked at: questions after one system prompt
# are many, and looking must stay cheaper than computing.
MAX_COMPARED = 32


def chain_hash(parent: bytes, tokens: Sequence[int]) -> bytes:
    """Name of a full block: 256 bits over its tokens and all before it, so that nobody can
    make two different beginnings meet."""
    return hashlib.blake2b(parent + array("q", tokens).tobytes(), digest_size=32).digest()


def input_hash(tokens: Sequence[int]) -> bytes:
    """Name of an encoder's whole input: each of its states depends on all of it."""
    return chain_hash(b"encoder", tokens)


def scoped_hash(scope: str, origin: bytes) -> bytes:
    """Name of nothing yet, in ``scope``: no chain of blocks that begins with it meets one of
    another scope."""
    return hashlib.blake2b(
        scope.encode() + b"\0" + origin, digest_size=32, person=b"scope"
    ).digest()


def adapted_hash(digest: str, origin: bytes) -> bytes:
    """Name of nothing yet, computed with the adapter of that digest: its keys are its own."""
    return hashlib.blake2b(
        digest.encode() + b"\0" + origin, digest_size=32, person=b"adapter"
    ).digest()


def cross_hashes(name: bytes, num_blocks: int) -> list[bytes]:
    """Names of the blocks that hold what an encoder made of the input ``name``."""
    return [chain_hash(b"cross" + name, [i]) for i in range(num_blocks)]


class BlockManager:
    """``allocate`` appends to a table that the caller owns; ``release`` empties it. A shared
    block is never written to again: only full blocks are published."""

    def __init__(self, num_blocks: int, block_size: int, *, prefix_cache: bool = True) -> None:
        self.num_blocks, self.block_size = num_blocks, block_size
        self._prefix_cache = prefix_cache
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._holders = [0] * self.num_blocks
        self._hash_of: dict[int, bytes] = {}
        self._block_of: dict[bytes, int] = {}
        self._empty: OrderedDict[int, None] = OrderedDict.fromkeys(range(self.num_blocks))
        self._reusable: OrderedDict[int, None] = OrderedDict()  # cached, unused, oldest first
        # By the hash of all before and the first token: the blocks that go on so, oldest first.
        self._followers: dict[tuple[bytes, int], dict[int, tuple[int, ...]]] = {}
        self._place_of: dict[int, tuple[bytes, int]] = {}

    @property
    def num_free(self) -> int:
        return len(self._empty) + len(self._reusable)

    @property
    def num_used(self) -> int:
        return self.num_blocks - self.num_free

    @property
    def num_cached(self) -> int:
        return len(self._hash_of)

    def match(self, hashes: Iterable[bytes]) -> list[int]:
        """The cached blocks of the longest beginning of ``hashes``. Changes nothing."""
        found = []
        for digest in hashes:
            block = self._block_of.get(digest)
            if block is None:
                break
            found.append(block)
        return found

    def match_partly(self, parent: bytes, tokens: Sequence[int]) -> tuple[int, int]:
        """A cached block that follows ``parent`` and begins with as many of ``tokens`` as any,
        and how many those are; 0 where there is none. Changes nothing."""
        best, most = 0, 0
        known = self._followers.get((parent, tokens[0]), {}) if tokens else {}
        for block in itertools.islice(reversed(known), MAX_COMPARED):
            count = 0
            for ours, theirs in zip(tokens, known[block], strict=False):
                if ours != theirs:
                    break
                count += 1
            if count > most:
                best, most = block, count
        return best, most

    def touch(self, block: int) -> None:
        """``block`` is of use just now, though nobody holds it."""
        if block in self._reusable:
            self._reusable.move_to_end(block)

    def can_allocate(self, num_new: int, shared: Sequence[int] = ()) -> bool:
        """Whether ``num_new`` blocks can be had beside holding ``shared``."""
        return num_new + sum(not self._holders[b] for b in shared) <= self.num_free

    def allocate(self, table: list[int], num_new: int, shared: Sequence[int] = ()) -> None:
        """Append ``shared`` (as matched) and then ``num_new`` blocks to ``table``."""
        assert self.can_allocate(num_new, shared), (
            f"asked for {num_new} blocks beside {len(shared)} shared, {self.num_free} are free"
        )
        for block in shared:
            if not self._holders[block]:
                del self._reusable[block]
            self._holders[block] += 1
            table.append(block)
        for _ in range(num_new):
            block = self._take(table[-1] + 1 if table else None)
            self._holders[block] = 1
            table.append(block)

    def _take(self, preferred: int | None) -> int:
        """An unused block; the neighbour if empty, so that sequences tend to lie in one piece
        and attention can read them without a gather."""
        if preferred in self._empty:
            assert preferred is not None
            del self._empty[preferred]
            return preferred
        if self._empty:
            return self._empty.popitem(last=False)[0]
        block, _ = self._reusable.popitem(last=False)
        self._forget(block)
        return block

    def publish(
        self, block: int, digest: bytes, parent: bytes = b"", tokens: Sequence[int] = ()
    ) -> None:
        """Make the full ``block`` findable. Of two with equal contents the first stays known.
        ``tokens``: what it holds after ``parent``, where its beginning alone is of use too."""
        assert self._holders[block], f"block {block} is published, but nobody holds it"
        if self._prefix_cache and digest not in self._block_of and block not in self._hash_of:
            self._hash_of[block] = digest
            self._block_of[digest] = block
            if tokens:
                self._place_of[block] = place = parent, tokens[0]
                self._followers.setdefault(place, {})[block] = tuple(tokens)

    def _forget(self, block: int) -> None:
        """Nobody may find ``block`` any more."""
        del self._block_of[self._hash_of.pop(block)]
        place = self._place_of.pop(block, None)
        if place is not None:
            del self._followers[place][block]
            if not self._followers[place]:
                del self._followers[place]

    def release(self, table: list[int], *, forget: bool = False) -> None:
        """Give back every block of ``table`` and empty it. ``forget`` also drops what the
        cache knows of blocks that nobody else holds."""
        # The end first: a beginning is worth more, since more sequences can share it.
        while table:
            block = table.pop()
            assert self._holders[block], f"block {block} is released, but nobody holds it"
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            if forget and block in self._hash_of:
                self._forget(block)
            (self._reusable if block in self._hash_of else self._empty)[block] = None

    def check(self, tables: Iterable[Sequence[int]]) -> None:
        """Raise `AssertionError`, with both sides, unless the books agree with ``tables``."""
        expected = Counter(block for table in tables for block in table)
        held = Counter({b: n for b, n in enumerate(self._holders) if n})
        assert held == expected, f"holders by our books {dict(held)}, by tables {dict(expected)}"
        free = set(self._empty) | set(self._reusable)
        unused = {b for b, n in enumerate(self._holders) if not n}
        assert free == unused, f"free by lists {sorted(free)}, by holders {sorted(unused)}"
        both = set(self._empty) & set(self._reusable)
        assert not both, f"both empty and reusable: {sorted(both)}"
        back = {b: h for h, b in self._block_of.items()}
        assert back == self._hash_of, f"cache by hash {back}, by block {self._hash_of}"
        cached = unused & set(self._hash_of)
        assert set(self._reusable) == cached, (
            f"reusable by list {sorted(self._reusable)}, by cache {sorted(cached)}"
        )
        places = {b: place for place, blocks in self._followers.items() for b in blocks}
        assert places == self._place_of, f"followers {places}, by block {self._place_of}"
        assert set(places) <= set(self._hash_of), "a block that is not cached can be found"
