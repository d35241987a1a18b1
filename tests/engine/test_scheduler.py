"""Scheduling without a model: budget, order, preemption, sharing."""

from __future__ import annotations

import random

import pytest
from tests.engine.conftest import byte_vocabulary

from lmstack.core import SamplingParams
from lmstack.engine import EngineConfig, EngineRequest
from lmstack.engine.blocks import BlockManager
from lmstack.engine.scheduler import Scheduler
from lmstack.engine.sequence import Search, SearchRound, Sequence, SequenceChunk

VOCABULARY = byte_vocabulary()


class Bench:
    """A scheduler whose model answers 1 to everything."""

    def __init__(self, num_blocks: int = 16, **settings: object) -> None:
        values = {"block_size": 4, "max_batch_tokens": 8, "max_sequences": 8} | settings
        self.config = EngineConfig.from_mapping(values)
        self.blocks = BlockManager(num_blocks, 4, prefix_cache=self.config.prefix_cache)
        self.scheduler = Scheduler(self.config, self.blocks)
        self.finished: list[Sequence] = []

    def add(self, prompt: list[int], max_tokens: int = 4, client: str = "") -> Sequence:
        params = SamplingParams(max_tokens=max_tokens)
        request = EngineRequest(str(len(prompt)), tuple(prompt), print, params, client=client)
        sequence = Sequence(request, VOCABULARY, len(prompt) + max_tokens)
        self.scheduler.add(sequence)
        return sequence

    def step(self) -> list[SequenceChunk]:
        chunks = self.scheduler.schedule()
        assert sum(c.count for c in chunks) <= self.config.max_batch_tokens
        self.check()
        for chunk in chunks:
            self.scheduler.computed(chunk)
            if chunk.samples and chunk.sequence.append(1) is not None:
                self.scheduler.remove(chunk.sequence)
                self.finished.append(chunk.sequence)
        self.check()
        return chunks

    def check(self) -> None:
        running = self.scheduler.running
        self.blocks.check(s.table for s in [*running, *self.scheduler.waiting])
        for sequence in running:
            held = len(sequence.table) * 4
            assert held >= sequence.num_computed, f"{held} slots, {sequence.num_computed} used"


def test_a_long_prompt_is_cut_to_the_budget() -> None:
    bench = Bench()
    bench.add(list(range(20)))
    assert [(c.start, c.end) for _ in range(3) for c in bench.step()] == [(0, 8), (8, 16), (16, 20)]


def test_decodes_come_before_prompts_in_a_mixed_step() -> None:
    bench = Bench()
    stream = bench.add([1, 2, 3])
    bench.step()
    bench.add(list(range(100, 120)))
    chunks = bench.step()
    assert chunks[0].sequence is stream
    assert [c.count for c in chunks] == [1, 7]


def test_a_stream_advances_in_every_step_while_a_long_prompt_is_computed() -> None:
    bench = Bench()
    stream = bench.add([1, 2, 3], max_tokens=5)
    bench.step()
    bench.add(list(range(100, 130)))
    for _ in range(4):
        assert any(c.sequence is stream for c in bench.step())


def test_the_latest_sequence_is_preempted_first_and_resumes_first() -> None:
    bench = Bench(num_blocks=6, prefix_cache=False)
    first, second = bench.add([1] * 7, max_tokens=12), bench.add([2] * 7, max_tokens=12)
    third = bench.add([3] * 7, max_tokens=12)
    while not bench.scheduler.num_preemptions:
        bench.step()
    assert first in bench.scheduler.running
    assert third.table == []
    while not bench.scheduler.idle:
        bench.step()
    assert bench.finished == [first, second, third]


def test_equal_prompts_wait_for_the_first_to_compute_their_blocks() -> None:
    bench = Bench(max_batch_tokens=32)
    prompt = list(range(14))
    sequences = [bench.add(prompt) for _ in range(3)]
    assert [c.sequence for c in bench.step()] == sequences[:1]
    chunks = bench.step()
    assert [(c.start, c.end) for c in chunks[1:]] == [(12, 14), (12, 14)]
    assert [s.cached_tokens for s in sequences] == [0, 12, 12]


def test_others_overtake_a_sequence_that_waits_for_a_shared_beginning() -> None:
    bench = Bench(max_batch_tokens=32)
    bench.add([1] * 9)
    waiting, other = bench.add([1] * 10), bench.add([2] * 9)
    started = [c.sequence for c in bench.step()]
    assert other in started
    assert waiting not in started


def test_a_cached_prompt_still_computes_its_last_token() -> None:
    bench = Bench(max_batch_tokens=32)
    bench.add([5] * 8)
    while not bench.scheduler.idle:
        bench.step()
    bench.add([5] * 8)
    assert [(c.start, c.end) for c in bench.step()] == [(7, 8)]


@pytest.mark.parametrize(
    ("prompt", "evicted"),
    [([1, 2, 3, 9], [5] * 4), ([7] * 4, [1, 2, 3, 4])],
    ids=["begins_as_the_oldest", "begins_as_none"],
)
def test_a_block_whose_beginning_is_copied_counts_as_used_and_no_other(
    prompt: list[int], evicted: list[int]
) -> None:
    bench = Bench(num_blocks=3)
    cached = [[1, 2, 3, 4], [5] * 4, [6] * 4]
    sequences = []
    for each in cached:  # the oldest first
        sequences.append(bench.add(each, max_tokens=1))
        bench.step()
    bench.add(prompt, max_tokens=1)
    bench.step()
    left = [each for each, s in zip(cached, sequences, strict=True) if bench.blocks.match(s.hashes)]
    assert left == [each for each in cached if each != evicted]


def test_a_drafted_token_that_was_right_counts_as_any_other() -> None:
    bench = Bench()
    drafting, other = (bench.add([i] * 3, client=c) for i, c in enumerate("ab"))
    bench.step()
    shares = bench.scheduler._shares
    assert not shares.is_behind("a", "b")
    assert not shares.is_behind("b", "a")
    bench.scheduler.accepted(drafting)
    assert shares.is_behind("b", "a")
    bench.step()
    bench.scheduler.accepted(other)
    assert not shares.is_behind("b", "a")


def test_no_more_than_max_sequences_run() -> None:
    bench = Bench(max_sequences=2)
    for i in range(4):
        bench.add([i] * 2)
    bench.step()
    assert len(bench.scheduler.running) == 2


def test_random_arrivals_and_removals_always_finish_and_return_every_block() -> None:
    rng = random.Random(3)
    for _ in range(60):
        bench = Bench(
            num_blocks=rng.randint(6, 14),
            prefix_cache=rng.random() < 0.7,
            max_batch_tokens=rng.choice([8, 11, 40]),
        )
        left = rng.randint(1, 12)
        total, removed = left, 0
        for _ in range(2000):
            if left and rng.random() < 0.4:
                bench.add([rng.randrange(2)] * rng.randint(1, 14), rng.randint(1, 10))
                left -= 1
            live = [*bench.scheduler.running, *bench.scheduler.waiting]
            if live and rng.random() < 0.05:
                bench.scheduler.remove(rng.choice(live))
                removed += 1
            chunks = bench.step()
            assert chunks or not bench.scheduler.running, "running, but nothing was scheduled"
            if bench.scheduler.idle and not left:
                break
        assert len(bench.finished) + removed == total
        assert bench.blocks.num_used == 0


class Twins(Search):
    """A search that always goes on with two children of its first member."""

    width, scores_logprobs = 2, False

    def __init__(self, root: Sequence) -> None:
        super().__init__(root)
        self.done: set[int] = set()

    def see(self, *_: object) -> None: ...

    def has(self, sequence: Sequence) -> bool:
        return id(sequence) in self.done

    def offer(self, sequence: Sequence, *_: object) -> None:
        self.done.add(id(sequence))

    def advance(self) -> SearchRound:
        parent = self.members[0]
        pairs = [(parent.fork(token), parent) for token in (1, 2)]
        self.members = [child for child, _ in pairs]
        return SearchRound(pairs, [])


def twins(bench: Bench, prompt: list[int]) -> Twins:
    sequence = Sequence(EngineRequest("t", tuple(prompt), print), VOCABULARY, 100)
    search = Twins(sequence)
    bench.scheduler.add(sequence)
    return search


def forward(bench: Bench, search: Twins) -> list[tuple[int, int]]:
    """Compute what is pending of the search and let it go on; the blocks to copy."""
    while not search.is_ready:
        for chunk in bench.scheduler.schedule():
            bench.scheduler.computed(chunk)
            if chunk.samples:
                search.offer(chunk.sequence)
    before = search.members
    copies = bench.scheduler.replace(before, search.advance().children)
    bench.blocks.check(m.table for m in search.members)
    return copies


def test_children_share_full_blocks_and_copy_the_one_they_write_to() -> None:
    bench = Bench()
    search = twins(bench, list(range(6)))
    copies = forward(bench, search)
    first, second = search.members
    assert first.table[0] == second.table[0]
    assert copies == [(first.table[1], second.table[1])]
    assert first.table[1] != second.table[1]
    assert (first.num_computed, second.num_computed) == (6, 6)


def test_children_of_whole_blocks_copy_nothing() -> None:
    bench = Bench()
    search = twins(bench, list(range(8)))
    assert forward(bench, search) == []
    assert search.members[0].table == search.members[1].table


def test_without_a_block_for_the_copy_the_child_computes_that_part_again() -> None:
    bench = Bench(num_blocks=2)
    search = twins(bench, list(range(6)))
    assert forward(bench, search) == []
    first, second = search.members
    assert (first.num_computed, second.num_computed) == (6, 4)
    assert second.table == first.table[:1]


def test_children_of_a_preempted_parent_wait_in_its_place() -> None:
    bench = Bench(num_blocks=8, prefix_cache=False)
    search = twins(bench, list(range(6)))
    later = bench.add([9] * 3)
    while not search.is_ready:
        for chunk in bench.scheduler.schedule():
            bench.scheduler.computed(chunk)
            if chunk.samples and chunk.sequence is not later:
                search.offer(chunk.sequence)
    bench.scheduler._preempt(search.root)
    assert search.root.is_parked
    assert all(c.sequence is later for c in bench.scheduler.schedule())
    before = search.members
    bench.scheduler.replace(before, search.advance().children)
    assert list(bench.scheduler.waiting) == search.members
    assert [m.order for m in search.members] == [0, 1]


def test_a_search_takes_the_places_of_all_its_members() -> None:
    bench = Bench(max_sequences=3)
    twins(bench, [1])
    single, more = bench.add([3, 3]), bench.add([4, 4])
    started = [c.sequence for c in bench.scheduler.schedule()]
    assert single in started
    assert more not in started
