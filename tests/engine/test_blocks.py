"""The block manager under random use, and the traps of sharing."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from lmstack.engine.blocks import BlockManager, chain_hash

SIZE = 4


def chain(tokens: list[int]) -> list[bytes]:
    hashes: list[bytes] = []
    for i in range(len(tokens) // SIZE):
        hashes.append(chain_hash(hashes[-1] if hashes else b"", tokens[i * SIZE : (i + 1) * SIZE]))
    return hashes


class Pool:
    """A user of the manager that remembers what each block should hold."""

    def __init__(self, num_blocks: int) -> None:
        self.blocks = BlockManager(num_blocks, SIZE)
        self.tables: list[list[int]] = []
        self.written: dict[int, bytes] = {}
        self.contents: dict[int, list[int]] = {}

    def start(self, tokens: list[int]) -> bool:
        """A sequence of ``tokens``: share, allocate, fill, publish."""
        hashes = chain(tokens)
        shared = self.blocks.match(hashes[: (len(tokens) - 1) // SIZE])
        for block, digest in zip(shared, hashes, strict=False):
            assert self.written[block] == digest, "a shared block holds something else"
        need = -(-len(tokens) // SIZE) - len(shared)
        if not self.blocks.can_allocate(need, shared):
            return False
        table: list[int] = []
        self.blocks.allocate(table, need, shared)
        for i in range(len(shared), len(table)):
            inside = tokens[i * SIZE : (i + 1) * SIZE]
            self.written[table[i]] = hashes[i] if i < len(hashes) else b"part"
            self.contents[table[i]] = tokens[: i * SIZE] + inside
            if i < len(hashes):
                parent = hashes[i - 1] if i else b""
                self.blocks.publish(table[i], hashes[i], parent, inside)
        self.tables.append(table)
        return True

    def end(self, index: int, *, forget: bool = False) -> None:
        self.blocks.release(self.tables.pop(index), forget=forget)


class PoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(12)

    # Few different tokens, so that beginnings meet often.
    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=30))
    def start(self, tokens: list[int]) -> None:
        self.pool.start(tokens)

    @rule(tokens=st.lists(st.integers(0, 1), min_size=1, max_size=30))
    def look(self, tokens: list[int]) -> None:
        hashes = chain(tokens)
        known = len(self.pool.blocks.match(hashes))
        rest = tokens[known * SIZE : (known + 1) * SIZE]
        block, count = self.pool.blocks.match_partly(hashes[known - 1] if known else b"", rest)
        end = known * SIZE + count
        assert count == 0 or self.pool.contents[block][:end] == tokens[:end]

    @precondition(lambda self: self.pool.tables)
    @rule(data=st.data(), forget=st.booleans())
    def end(self, data: st.DataObject, forget: bool) -> None:
        self.pool.end(data.draw(st.integers(0, len(self.pool.tables) - 1)), forget=forget)

    @invariant()
    def books_agree(self) -> None:
        self.pool.blocks.check(self.pool.tables)

    def teardown(self) -> None:
        while self.pool.tables:
            self.pool.end(0)
        assert self.pool.blocks.num_free == 12


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_ten_thousand_random_steps_keep_the_books_and_return_every_block() -> None:
    rng = random.Random(0)
    pool = Pool(64)
    for _ in range(10_000):
        if pool.tables and (rng.random() < 0.5 or len(pool.tables) > 40):
            pool.end(rng.randrange(len(pool.tables)), forget=rng.random() < 0.05)
        else:
            pool.start([rng.randrange(2) for _ in range(rng.randrange(1, 60))])
        pool.blocks.check(pool.tables)
    while pool.tables:
        pool.end(0)
    assert pool.blocks.num_free == 64


def test_a_block_that_someone_holds_is_never_evicted() -> None:
    pool = Pool(4)
    assert pool.start([0] * 9)
    held = list(pool.tables[0])
    assert pool.start([1] * 4)
    pool.end(1)
    assert pool.start([2] * 4)
    assert set(pool.tables[-1]).isdisjoint(held)
    assert not pool.start([3] * 8)


def test_the_least_recently_used_beginning_is_evicted_first() -> None:
    pool = Pool(2)
    for token in (0, 1):
        pool.start([token] * SIZE)
        pool.end(0)
    pool.blocks.match(chain([0] * SIZE))  # looking is not using
    table: list[int] = []
    pool.blocks.allocate(table, 0, pool.blocks.match(chain([0] * SIZE)))
    pool.blocks.release(table)
    pool.start([2] * SIZE)
    assert not pool.blocks.match(chain([1] * SIZE))
    assert pool.blocks.match(chain([0] * SIZE))


def test_the_end_of_a_sequence_is_evicted_before_its_beginning() -> None:
    pool = Pool(3)
    pool.start([0] * 3 * SIZE)
    pool.end(0)
    pool.start([1] * SIZE)
    assert len(pool.blocks.match(chain([0] * 3 * SIZE))) == 2


def test_equal_blocks_after_different_beginnings_do_not_meet() -> None:
    blocks = BlockManager(8, SIZE)
    table: list[int] = []
    blocks.allocate(table, 2)
    for block, digest in zip(table, chain([0] * SIZE + [7] * SIZE), strict=True):
        blocks.publish(block, digest)
    assert not blocks.match(chain([7] * SIZE))
    assert len(blocks.match(chain([0] * SIZE + [7] * SIZE))) == 2


def publish(blocks: BlockManager, tokens: list[int], parent: bytes = b"") -> int:
    table: list[int] = []
    blocks.allocate(table, 1)
    blocks.publish(table[0], chain_hash(parent, tokens), parent, tokens)
    block = table[0]
    blocks.release(table)
    return block


def test_the_block_with_the_longest_common_beginning_is_found() -> None:
    blocks = BlockManager(8, SIZE)
    publish(blocks, [1, 2, 9, 9])
    best = publish(blocks, [1, 2, 3, 9])
    publish(blocks, [1, 8, 3, 4])
    assert blocks.match_partly(b"", [1, 2, 3, 4]) == (best, 3)
    assert blocks.match_partly(b"", [1, 2, 3]) == (best, 3)
    assert blocks.match_partly(b"", [2])[1] == 0
    assert blocks.match_partly(b"", [])[1] == 0


def test_a_beginning_is_found_after_its_own_past_only() -> None:
    blocks = BlockManager(8, SIZE)
    publish(blocks, [1, 2, 3, 4], parent=b"one past")
    assert blocks.match_partly(b"another", [1, 2, 3])[1] == 0


@pytest.mark.parametrize("way", ["evicted", "forgotten"])
def test_a_beginning_is_not_found_once_its_block_is_gone(way: str) -> None:
    blocks = BlockManager(1, SIZE)
    publish(blocks, [1, 2, 3, 4])
    table: list[int] = []
    if way == "evicted":
        blocks.allocate(table, 1)
    else:
        blocks.allocate(table, 0, blocks.match(chain([1, 2, 3, 4])))
        blocks.release(table, forget=True)
    assert blocks.match_partly(b"", [1, 2, 3])[1] == 0


def test_touching_a_block_keeps_it_longer_than_those_used_later() -> None:
    blocks = BlockManager(2, SIZE)
    first, second = publish(blocks, [1] * SIZE), publish(blocks, [2] * SIZE)
    blocks.touch(first)
    table: list[int] = []
    blocks.allocate(table, 1)
    assert table == [second]


def test_looking_among_many_alike_is_bounded_and_prefers_the_latest() -> None:
    blocks = BlockManager(1000, SIZE)
    for i in range(1000):
        latest = publish(blocks, [1, 2, i, i])
    assert blocks.match_partly(b"", [1, 2, 999]) == (latest, 3)
    assert blocks.match_partly(b"", [1, 2, 0])[1] == 2  # the exact one is too old to look at


def test_token_boundaries_are_part_of_the_hash() -> None:
    assert chain_hash(b"", [1, 256]) != chain_hash(b"", [257, 0])


def test_without_prefix_cache_nothing_is_found() -> None:
    blocks = BlockManager(4, SIZE, prefix_cache=False)
    table: list[int] = []
    blocks.allocate(table, 1)
    blocks.publish(table[0], chain([0] * SIZE)[0])
    assert blocks.match(chain([0] * SIZE)) == []


def test_can_allocate_counts_shared_blocks_that_nobody_holds() -> None:
    pool = Pool(3)
    pool.start([0] * 2 * SIZE)
    pool.end(0)
    shared = pool.blocks.match(chain([0] * 2 * SIZE))
    assert pool.blocks.can_allocate(1, shared)
    assert not pool.blocks.can_allocate(2, shared)


def test_new_blocks_are_neighbours_when_they_can_be() -> None:
    blocks = BlockManager(8, SIZE)
    first: list[int] = []
    blocks.allocate(first, 1)
    blocks.allocate(first, 3)
    assert first == [0, 1, 2, 3]


def test_check_prints_both_sides() -> None:
    blocks = BlockManager(2, SIZE)
    table: list[int] = []
    blocks.allocate(table, 1)
    with pytest.raises(AssertionError, match=r"by our books \{0: 1\}, by tables \{\}"):
        blocks.check([])
