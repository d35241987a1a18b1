"""Rows, packing, and the order of examples."""

from __future__ import annotations

import bisect
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.train import tiny

from lmstack.core import InputError
from lmstack.train.data.examples import Example
from lmstack.train.loader import Loader, ProcessShare, pack
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Reading


def one_by_one(lengths: list[int], capacity: int) -> list[int]:
    """Best fit, decreasing, as it is defined: the rooms that are left."""
    rooms: list[int] = []
    for length in sorted(lengths, reverse=True):
        place = bisect.bisect_left(rooms, length)
        room = rooms.pop(place) if place < len(rooms) else max(capacity, length)
        bisect.insort(rooms, room - length)
    return rooms


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 50))
def test_packing_is_best_fit_decreasing(lengths: list[int], capacity: int) -> None:
    rows = pack(lengths, capacity)
    held = [rows[i].tolist() for i in range(len(rows))]
    assert sorted(i for row in held for i in row) == list(range(len(lengths)))
    sums = [sum(lengths[i] for i in row) for row in held]
    assert all(total <= capacity or len(row) == 1 for total, row in zip(sums, held, strict=True))
    left = [
        max(capacity, max(lengths[i] for i in row)) - sum(lengths[i] for i in row) for row in held
    ]
    assert sorted(left) == one_by_one(lengths, capacity)


def chat_lengths(count: int, seed: int = 0) -> np.ndarray:
    """Of conversations: log-normal, a mean near 180 tokens, cut at 1,024."""
    drawn = np.exp(np.random.default_rng(seed).normal(4.8, 0.9, count)).astype(np.int64) + 8
    return np.minimum(drawn, 1024)


@pytest.mark.parametrize("count", [500, 20_000])
def test_rows_are_filled(count: int) -> None:
    lengths = chat_lengths(count)
    assert lengths.sum() / (len(pack(lengths, 1024)) * 1024) > 0.99


def test_in_a_row_the_longest_is_first() -> None:
    lengths = chat_lengths(3000)
    rows = pack(lengths, 1024)
    for row in (rows[i] for i in range(len(rows))):
        assert lengths[row].tolist() == sorted(lengths[row], reverse=True)


def test_equal_lengths_stay_in_their_order() -> None:
    lengths = np.random.default_rng(0).integers(1, 4, 400)
    places = sorted(range(400), key=lambda place: lengths[place])
    assert pack([20] * 400, 20).members.tolist() == list(range(400))
    falling = sorted(range(400), key=lambda place: -lengths[place])
    assert pack(lengths, 1).members.tolist() == falling
    examples = [Example((np.zeros(n, np.int32),)) for n in lengths]
    settings = {"batch": 1, "micro_tokens": 1, "seed": 0}
    made = Loader(examples, lengths, CausalLM(), tiny.reading(), **settings)
    assert made.passes() == [[place] for place in places]


def test_half_a_million_examples_are_packed_in_a_second() -> None:
    lengths = chat_lengths(500_000)
    started = time.process_time()
    rows = pack(lengths, 1024)
    assert time.process_time() - started < 1.5
    assert rows.members.nbytes + rows.starts.nbytes < 16 * len(lengths)


ALONE = ProcessShare()


def loader(
    share: ProcessShare = ALONE, *, packs: bool, batch: int = 5, micro_tokens: int = 40
) -> Loader:
    found = tiny.examples(37)
    return Loader(
        found,
        [example.tokens for example in found],
        CausalLM(),
        tiny.reading(32),
        batch=batch,
        micro_tokens=micro_tokens,
        seed=1,
        share=share,
        packs=packs,
    )


def seen(found: Loader, step: int) -> list[tuple[int, ...]]:
    """The sequences of a step that count, sorted."""
    sequences = []
    for batch in found.batches(step):
        if batch.weight:
            ids = batch.inputs["input_ids"].split(batch.inputs["lengths"])
            sequences += [tuple(part.tolist()) for part in ids]
    return sorted(sequences)


@pytest.mark.parametrize("packs", [True, False])
def test_an_epoch_has_each_example_once_in_an_order_of_its_own(packs: bool) -> None:
    found = loader(packs=packs)
    per_epoch = found.steps(1)
    every = sorted(tuple(e.sequences[0].tolist()) for e in tiny.examples(37))
    epochs = [[seen(found, e * per_epoch + s) for s in range(per_epoch)] for e in range(2)]
    for epoch in epochs:
        assert sorted(sequence for step in epoch for sequence in step) == every
    assert epochs[0] != epochs[1]
    assert [found.epoch(step) for step in range(2 * per_epoch)] == sorted([0, 1] * per_epoch)


@pytest.mark.parametrize("packs", [True, False])
def test_a_step_does_not_depend_on_those_before_it(packs: bool) -> None:
    one, two = loader(packs=packs), loader(packs=packs)
    forwards = [seen(one, step) for step in range(9)]
    assert [seen(two, step) for step in reversed(range(9))] == forwards[::-1]


@pytest.mark.parametrize("world", [2, 3, 7])
@pytest.mark.parametrize("packs", [True, False])
def test_processes_share_a_step_and_meet_in_each_pass(packs: bool, world: int) -> None:
    alone = loader(packs=packs)
    together = [loader(ProcessShare(rank, world), packs=packs) for rank in range(world)]
    for step in range(alone.steps(2)):
        parts = [part.batches(step) for part in together]
        assert len({len(batches) for batches in parts}) == 1
        assert sorted(s for part in together for s in seen(part, step)) == seen(alone, step)
        tokens = [sum(batch.tokens for batch in batches) for batches in parts]
        assert sum(tokens) == sum(batch.tokens for batch in alone.batches(step))


def test_a_pass_has_no_more_tokens_than_asked() -> None:
    found = loader(packs=False, batch=20)
    for step in range(found.steps(1)):
        for batch in found.batches(step):
            assert batch.tokens <= 40
            assert batch.inputs["lengths"] == sorted(batch.inputs["lengths"])


def test_part_of_an_epoch_is_rounded_up() -> None:
    found = loader(packs=False)  # 37 examples in steps of 5
    assert [found.steps(epochs) for epochs in (0.1, 0.5, 1, 1.5, 2)] == [1, 4, 8, 12, 16]


def test_no_examples_are_an_error() -> None:
    with pytest.raises(InputError, match="nothing to train on"):
        Loader([], [], CausalLM(), tiny.reading(), batch=1, micro_tokens=1, seed=0)


class Noisy(CausalLM):
    """Sees other tokens than the example has, as the generator draws them."""

    def noised(self, example: Example, rng: np.random.Generator, reading: Reading) -> Example:
        return Example((rng.integers(3, tiny.VOCAB, example.tokens).astype(np.int32),))


def test_an_epoch_masks_other_places_and_the_same_ones_when_it_is_gone_through_again() -> None:
    found = tiny.examples(5)
    lengths = [example.tokens for example in found]
    parts = (found, lengths, Noisy(), tiny.reading(32))
    loaders = [
        Loader(*parts, batch=5, micro_tokens=1000, seed=seed, packs=False) for seed in (1, 1, 2)
    ]
    first, again, other = (
        [each.batches(epoch)[0].inputs["input_ids"].tolist() for epoch in (0, 1)]
        for each in loaders
    )
    assert first[0] != first[1]
    assert first == again  # also where the first epoch was not seen before
    assert loaders[1].batches(0)[0].inputs["input_ids"].tolist() == first[0]
    assert first != other
    alone = str(loaders[0].batch_of([2]).inputs["input_ids"].tolist())[1:-1]
    assert alone in str(first[0]), "outside of steps an example is what the first epoch sees"
    assert alone not in str(first[1])


def test_packed_rows_do_not_come_by_their_length() -> None:
    """As `pack` makes them, those with the longest examples are first."""
    found = loader(packs=True).with_batch(1)
    epochs = []
    for epoch in range(2):
        steps = range(found.rows())
        first = found.steps(epoch)
        epochs.append([max(map(len, seen(found, first + step))) for step in steps])
    for longest in epochs:
        assert longest != sorted(longest, reverse=True)
    assert epochs[0] != epochs[1]


def test_processes_share_the_prompts_of_a_step_and_know_their_places() -> None:
    alone = loader(packs=False)
    for step in (0, 1, alone.steps(1) - 1, alone.steps(1)):
        every = alone.examples(step)
        assert [place for place, _ in every] == list(range(len(every)))
        assert sorted(tuple(e.sequences[0].tolist()) for _, e in every) == seen(alone, step)
        parts = [loader(ProcessShare(rank, 3), packs=False).examples(step) for rank in range(3)]
        for rank, part in enumerate(parts):
            assert [place for place, _ in part] == list(range(rank, len(every), 3))
            for place, example in part:
                assert np.array_equal(example.sequences[0], every[place][1].sequences[0])


def test_outside_of_steps_every_example_is_read_once_by_its_length() -> None:
    found = loader(packs=True, micro_tokens=50)
    passes = found.passes()
    order = [index for part in passes for index in part]
    assert sorted(order) == list(range(37))
    assert [found.lengths[i] for i in order] == sorted(found.lengths)
    sums = [sum(found.lengths[i] for i in part) for part in passes]
    assert max(sums) <= 50
    shortest = [found.lengths[part[0]] for part in passes]
    assert all(a + b > 50 for a, b in zip(sums, shortest[1:], strict=False))
    assert found.tokens() == sum(found.lengths)
    assert found.rows() == len(pack(found.lengths, 32))


def test_a_loader_like_another_has_its_order_seed_and_share() -> None:
    made = loader(ProcessShare(1, 2), packs=False, micro_tokens=50)
    smaller, other = made.with_batch(2), made.over(tiny.examples(37))
    assert [len(smaller.examples(0)), len(made.examples(0))] == [1, 2]
    for step in range(4):
        assert seen(other, step) == seen(made, step)
        assert [b.tokens for b in other.batches(step)] == [b.tokens for b in made.batches(step)]
    every = [loader(packs=False).examples(step) for step in range(2)]
    wanted = [example for step in every for _, example in step][:2]
    found = [loader(packs=False).with_batch(1).examples(step)[0][1] for step in range(2)]
    for one, two in zip(found, wanted, strict=True):
        assert np.array_equal(one.sequences[0], two.sequences[0])


def test_a_process_without_rows_reads_one_that_does_not_count() -> None:
    parts = [loader(ProcessShare(rank, 7), packs=False) for rank in range(7)]  # five rows a step
    idle = [batch for part in parts for batch in part.batches(0) if not batch.weight]
    assert len(idle) == 2
    assert {batch.tokens for batch in idle} == {0}
    shortest = min(sum(batch.inputs["lengths"]) for part in parts for batch in part.batches(0))
    assert {sum(batch.inputs["lengths"]) for batch in idle} == {shortest}
