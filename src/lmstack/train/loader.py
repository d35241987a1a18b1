"""Batches in an order that follows from a seed and a position alone.

A step is a number: what it holds depends on the seed, the examples and the settings, never on the
steps before it or on the number of processes. So a run that resumes at step k sees what the
uninterrupted one saw, and each process takes its share of the same rows.

A row is one example, or for an objective that packs as many as fit in ``max_length`` tokens.
Attention stays inside each example, so packing changes no loss. Each epoch shuffles the examples
before it packs them and the rows after, so that rows are made of others of the same lengths.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from lmstack.core import InputError
from lmstack.train.data.examples import Batch, Example
from lmstack.train.objectives.objective import Objective, Reading
from lmstack.train.recipe import Recipe

__all__ = ["Loader", "PackedRows", "ProcessShare", "pack", "steps_of"]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ProcessShare:
    """The ``rank``-th of ``world`` processes."""

    rank: int = 0
    world: int = 1


@dataclass(frozen=True)
class PackedRows:
    """Row i holds the examples ``members[starts[i]:starts[i + 1]]``: 8 bytes an example and a row,
    where lists of lists would be ten times that."""

    members: Ints
    starts: Ints

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> Ints:
        return self.members[self.starts[row] : self.starts[row + 1]]

    def taken(self, order: Ints) -> PackedRows:
        """The rows ``order``."""
        sizes = np.diff(self.starts)[order]
        starts = np.concatenate(([0], np.cumsum(sizes)))
        shift = np.repeat(self.starts[order] - starts[:-1], sizes)
        return PackedRows(self.members[np.arange(len(shift)) + shift], starts)


class Loader:
    """``lengths``: tokens of each example. ``batch``: rows of a step, of all processes together.
    ``micro_tokens``: tokens of one pass at most (a single row may have more). The last rows of an
    epoch make a smaller step."""

    def __init__(
        self,
        examples: Sequence[Example],
        lengths: Sequence[int] | Ints,
        objective: Objective,
        reading: Reading,
        *,
        batch: int,
        micro_tokens: int,
        seed: int,
        share: ProcessShare = ProcessShare(),
        packs: bool | None = None,
    ) -> None:
        if not len(examples):
            raise InputError("there is nothing to train on", hint="the data has no usable row")
        self.all_examples, self.lengths = examples, np.asarray(lengths)
        self._objective, self._reading = objective, reading
        self._batch, self._micro_tokens = batch, micro_tokens
        self._seed, self._share = seed, share
        self._packs = objective.packs if packs is None else packs
        self._rows: Callable[[int], PackedRows] = lru_cache(maxsize=1)(self._rows_of)
        self._starts = [0]  # the first step of each epoch so far

    def tokens(self) -> int:
        """Of one epoch."""
        return int(self.lengths.sum())

    def rows(self) -> int:
        """Of the first epoch."""
        return len(self._rows(0))

    def with_batch(self, batch: int) -> Loader:
        """The same rows in the same order, ``batch`` of them to a step."""
        return self._like(self.all_examples, batch)

    def over(self, examples: Sequence[Example]) -> Loader:
        """The same order of ``examples`` that stand for its own, of the same lengths."""
        return self._like(examples, self._batch)

    def passes(self) -> list[list[int]]:
        """All examples once, by their length, together up to ``micro_tokens``: to be read outside
        of steps (`batch_of`), by whichever process."""
        return self._passes(list(np.argsort(self.lengths, kind="stable")[:, None]))

    def batch_of(self, indices: Sequence[int]) -> Batch:
        """The examples ``indices`` in one pass, as the first epoch sees them."""
        return self._made(indices, 0)

    def _like(self, examples: Sequence[Example], batch: int) -> Loader:
        return Loader(
            examples,
            self.lengths,
            self._objective,
            self._reading,
            batch=batch,
            micro_tokens=self._micro_tokens,
            seed=self._seed,
            share=self._share,
            packs=self._packs,
        )

    def steps(self, epochs: float) -> int:
        """How many steps ``epochs`` have."""
        whole = int(epochs)
        rest = self._steps_of(whole) * (epochs - whole) if epochs > whole else 0
        return self._start(whole) + int(-(-rest // 1))

    def epoch(self, step: int) -> int:
        """The epoch that ``step`` is in, counted from 0."""
        while self._starts[-1] <= step:
            self._start(len(self._starts))
        return bisect.bisect_right(self._starts, step) - 1

    def batches(self, step: int) -> list[Batch]:
        """This process's passes of ``step``, as many as every other process has: one that has
        fewer rows gets passes without weight, because all of them meet in each pass."""
        epoch = self.epoch(step)
        taken = self._taken(step)
        # Sorted, so that processes get rows of like length, and wait little for each other.
        taken.sort(key=self._tokens)
        world = self._share.world
        passes = [self._passes(taken[rank::world]) for rank in range(world)]
        most = max(map(len, passes))
        mine = passes[self._share.rank]
        found = [self._made(indices, epoch) for indices in mine]
        if len(found) == most:
            return found
        spare = self._made(taken[0][:1].tolist(), epoch)
        return found + [dataclasses.replace(spare, weight=0.0, tokens=0)] * (most - len(found))

    def examples(self, step: int) -> list[tuple[int, Example]]:
        """This process's examples of ``step``, each with its place among those of all: what an
        online objective draws answers to."""
        flat = [int(index) for row in self._taken(step) for index in row]
        return [
            (place, self.all_examples[flat[place]])
            for place in range(self._share.rank, len(flat), self._share.world)
        ]

    def _taken(self, step: int) -> list[Ints]:
        """The rows of ``step``, of all processes."""
        epoch = self.epoch(step)
        first = (step - self._starts[epoch]) * self._batch
        rows = self._rows(epoch)
        return [rows[i] for i in range(first, min(first + self._batch, len(rows)))]

    def _made(self, indices: Sequence[int], epoch: int) -> Batch:
        seen = []
        for index in indices:
            rng = np.random.default_rng([self._seed, epoch, index])
            seen.append(self._objective.noised(self.all_examples[index], rng, self._reading))
        return self._objective.collate(seen, self._reading)

    def _passes(self, rows: Sequence[Ints]) -> list[list[int]]:
        """Whole rows, shortest first, together up to ``micro_tokens``; in a pass, examples of like
        length are neighbours, which attention computes as one batch."""
        passes: list[list[int]] = []
        room = 0
        for row in rows:
            tokens = self._tokens(row)
            if not passes or tokens > room:
                passes.append([])
                room = self._micro_tokens
            passes[-1] += row.tolist()
            room -= tokens
        return [sorted(indices, key=lambda i: (self.lengths[i], i)) for indices in passes]

    def _tokens(self, row: Ints) -> int:
        return int(self.lengths[row].sum())

    def _rows_of(self, epoch: int) -> PackedRows:
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self.all_examples))
        if not self._packs:
            return PackedRows(order, np.arange(len(order) + 1))
        packed = pack(self.lengths[order], self._reading.max_length)
        packed = dataclasses.replace(packed, members=order[packed.members])
        return packed.taken(rng.permutation(len(packed)))

    def _steps_of(self, epoch: int) -> int:
        return -(-len(self._rows(epoch)) // self._batch)

    def _start(self, epoch: int) -> int:
        """The first step of ``epoch``."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + self._steps_of(len(self._starts) - 1))
        return self._starts[epoch]


def steps_of(recipe: Recipe, train: Loader) -> int:
    """How many steps a run of ``recipe`` has."""
    return recipe.steps or max(train.steps(recipe.epochs), 1)


def pack(lengths: Sequence[int] | Ints, capacity: int) -> PackedRows:
    """Examples of ``lengths`` in rows of at most ``capacity`` tokens: best fit, the longest first
    (Johnson, 1973). A length over ``capacity`` has a row of its own; in a row the longest is
    first."""
    sizes: Ints = np.maximum(lengths, 1)
    order = np.argsort(-sizes, kind="stable")
    row_of = _best_fit(sizes[order], capacity)
    members = order[np.argsort(row_of, kind="stable")]
    return PackedRows(members, np.concatenate(([0], np.cumsum(np.bincount(row_of)))))


def _best_fit(lengths: Ints, capacity: int) -> Ints:
    """The row of each of ``lengths``, the longest first.

    All examples of one length are placed at once: the fullest row with room for one is still the
    fullest after it, so it takes as many as fit, and so do all rows with as much room.
    """
    row_of = np.empty(len(lengths), np.int64)
    by_room: dict[int, list[Ints]] = {}
    rooms: list[int] = []  # sorted, each with at least one row
    count = 0
    edges = np.flatnonzero(np.diff(lengths, append=0))
    start = 0
    for stop in (edges + 1).tolist():
        length = int(lengths[start])
        while start < stop:
            place = bisect.bisect_left(rooms, length)
            if place == len(rooms):
                room = max(capacity, length)
                needed = -(-(stop - start) // (room // length))
                rows = np.arange(count, count + needed)
                count += needed
            else:
                room = rooms.pop(place)
                rows = np.concatenate(by_room.pop(room))
            each = room // length
            taken = min(stop - start, each * len(rows))
            row_of[start : start + taken] = np.repeat(rows, each)[:taken]
            start += taken
            full, part = divmod(taken, each)
            for left, which in (
                (room - each * length, rows[:full]),
                (room - part * length, rows[full : full + 1]),
                (room, rows[full + 1 :]),
            ):
                if left and len(which):
                    if left not in by_room:
                        bisect.insort(rooms, left)
                    by_room.setdefault(left, []).append(which)
    return row_of
