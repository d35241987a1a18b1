"""Batches in an order that follows from a seed and a position alone.

A step is a number: what it holds depends on the seed, the examples and the settings, never on the
steps before it or on the number of processes. So a run that resumes at step k sees what the
uninterrupted one saw, and each process takes its share of the same rows.

A row is one example, or for an objective that packs as many as fit in ``max_length`` tokens (best
fit, decreasing). Attention stays inside each example, so packing changes no loss.
"""

from __future__ import annotations

import bisect
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lmstack.core import InputError
from lmstack.train.data.examples import Batch, Example
from lmstack.train.objectives.objective import Objective, Reading

__all__ = ["Loader", "Share", "pack"]


@dataclass(frozen=True)
class Share:
    """The ``rank``-th of ``world`` processes."""

    rank: int = 0
    world: int = 1


class Loader:
    """``batch``: rows of a step, of all processes together. ``micro_tokens``: tokens of one pass
    at most (a single row may have more). The last rows of an epoch make a smaller step."""

    def __init__(
        self,
        examples: Sequence[Example],
        lengths: Sequence[int],
        objective: Objective,
        reading: Reading,
        *,
        batch: int,
        micro_tokens: int,
        seed: int,
        share: Share = Share(),
        packs: bool | None = None,
    ) -> None:
        if not len(examples):
            raise InputError("there is nothing to train on", hint="the data has no usable row")
        self._examples, self._lengths = examples, np.asarray(lengths)
        self._objective, self._reading = objective, reading
        self._batch, self._micro_tokens = batch, micro_tokens
        self._seed, self._share = seed, share
        self._packs = objective.packs if packs is None else packs
        self._rows = lru_cache(maxsize=2)(self._rows_of)
        self._starts = [0]  # the first step of each epoch so far

    def tokens(self) -> int:
        """Of one epoch."""
        return int(self._lengths.sum())

    def steps(self, epochs: float) -> int:
        """How many steps ``epochs`` have."""
        whole = int(epochs)
        rest = self._steps_of(whole) * (epochs - whole)
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
        first = (step - self._starts[epoch]) * self._batch
        rows = self._rows(epoch)[first : first + self._batch]
        world = self._share.world
        passes = [self._passes(rows[rank::world]) for rank in range(world)]
        most = max(map(len, passes))
        mine = passes[self._share.rank]
        found = [self._made(indices, epoch) for indices in mine]
        spare = self._made(rows[0][:1], epoch) if len(mine) < most else None
        idle = [dataclasses.replace(spare, weight=0.0, tokens=0)] if spare else []
        return found + idle * (most - len(mine))

    def _made(self, indices: Sequence[int], epoch: int) -> Batch:
        seen = []
        for index in indices:
            rng = np.random.default_rng([self._seed, epoch, index])
            seen.append(self._objective.noised(self._examples[index], rng, self._reading))
        return self._objective.collate(seen, self._reading)

    def _passes(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """Whole rows together up to ``micro_tokens``; in a pass, examples of like length are
        neighbours, which attention computes as one batch."""
        passes: list[list[int]] = []
        room = 0
        for row in sorted(rows, key=self._tokens):
            tokens = self._tokens(row)
            if not passes or tokens > room:
                passes.append([])
                room = self._micro_tokens
            passes[-1] += row
            room -= tokens
        return [sorted(indices, key=lambda i: (self._lengths[i], i)) for indices in passes]

    def _tokens(self, row: Sequence[int]) -> int:
        return int(self._lengths[list(row)].sum())

    def _rows_of(self, epoch: int) -> list[list[int]]:
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._examples))
        if not self._packs:
            return [[int(index)] for index in order]
        rows = pack(self._lengths[order], self._reading.max_length)
        found = [[int(order[i]) for i in row] for row in rows]
        return [found[i] for i in rng.permutation(len(found))]

    def _steps_of(self, epoch: int) -> int:
        return -(-len(self._rows(epoch)) // self._batch)

    def _start(self, epoch: int) -> int:
        """The first step of ``epoch``."""
        while len(self._starts) <= epoch:
            self._starts.append(self._starts[-1] + self._steps_of(len(self._starts) - 1))
        return self._starts[epoch]


def pack(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Indices of ``lengths`` in rows of at most ``capacity``: best fit, the longest first, with a
    heap of rows for each room left. A length over ``capacity`` has a row of its own."""
    order = np.argsort(-np.asarray(lengths), kind="stable")
    rows: list[list[int]] = []
    by_room: dict[int, list[int]] = {}
    rooms: list[int] = []  # sorted, each with at least one row
    for index in order.tolist():
        length = int(lengths[index])
        place = bisect.bisect_left(rooms, length)
        if place == len(rooms):
            rows.append([])
            row, room = len(rows) - 1, max(capacity, length)
        else:
            room = rooms[place]
            row = by_room[room].pop()
            if not by_room[room]:
                del by_room[room], rooms[place]
        rows[row].append(index)
        left = room - length
        if left > 0:
            if left not in by_room:
                by_room[left] = []
                bisect.insort(rooms, left)
            by_room[left].append(row)
    return rows
