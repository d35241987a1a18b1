"""What is summed over the batches of a step or an evaluation, and over processes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from lmstack.train.data.examples import Batch
from lmstack.train.objectives.objective import Loss, Objective
from lmstack.train.parallel import Parallel

__all__ = ["Sums", "Taken", "timed"]


class Sums:
    """Losses and what is reported beside them."""

    def __init__(self) -> None:
        self._sums = {"loss": 0.0}
        self._counts: dict[str, Tensor] = {}
        self._largest: dict[str, Tensor] = {}

    def add(self, loss: Loss, batch: Batch) -> None:
        real = float(batch.weight > 0)  # without weight: another process has more passes
        self._sums["loss"] += real * float(loss.total.detach())
        for name, value in loss.sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + real * float(value)
        for name, value in loss.counts.items():
            count = real * value.detach().double().cpu()
            self._counts[name] = self._counts[name] + count if name in self._counts else count
        for name, value in loss.largest.items():
            self._raise(name, real * value.detach().cpu())

    def merge(self, other: Sums) -> None:
        """Add what ``other`` has."""
        for name, total in other._sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + total
        for name, count in other._counts.items():
            self._counts[name] = self._counts[name] + count if name in self._counts else count
        for name, value in other._largest.items():
            self._raise(name, value)

    def _raise(self, name: str, value: Tensor) -> None:
        before = self._largest.get(name, value)
        self._largest[name] = torch.maximum(before, value)

    def values(self, objective: Objective, parallel: Parallel, weight: float) -> dict[str, float]:
        """Of all processes. ``weight``: of all predictions."""
        flat = [float(x) for count in self._counts.values() for x in count.flatten()]
        found = parallel.summed(*self._sums.values(), *flat)
        values = {
            name: total / (weight or 1.0)
            for name, total in zip(self._sums, found[: len(self._sums)], strict=True)
        }
        counts, at = {}, len(self._sums)
        for name, count in self._counts.items():
            part = found[at : at + count.numel()]
            counts[name] = torch.tensor(part, dtype=torch.float64).view(count.shape)
            at += count.numel()
        for name, value in self._largest.items():
            values[name] = max(map(float, parallel.of_all(value)))
        return objective.reported(values, counts)


class Taken:
    """What the updates of a step came to, of all processes. ``loss``: of the last; ``values``: of
    all; ``gradient``: the longest; ``seconds``: of this process, by what took them."""

    def __init__(self) -> None:
        self.values: dict[str, float] = {}
        self.loss = self.tokens = self.flops = self.gradient = 0.0
        self.passes = 0
        self.seconds: dict[str, float] = {}
        self._sums, self._weight = Sums(), 0.0

    def add(self, sums: Sums, weight: float, objective: Objective, parallel: Parallel) -> None:
        """Another update."""
        own = sums.values(objective, parallel, weight)
        self.loss = own["loss"]
        self._sums.merge(sums)
        self._weight += weight
        is_first = not self.values  # and all of them, which others need not be asked for again
        self.values = own if is_first else self._sums.values(objective, parallel, self._weight)


@contextmanager
def timed(clock: dict[str, float], what: str) -> Iterator[None]:
    """Add the seconds that it takes to those of ``what``."""
    started = time.perf_counter()
    yield
    clock[what] = clock.get(what, 0.0) + time.perf_counter() - started
