"""What is summed over the batches of a step or an evaluation, and over processes."""

from __future__ import annotations

import torch
from torch import Tensor

from lmstack.train.data.examples import Batch
from lmstack.train.objectives.objective import Loss, Objective
from lmstack.train.parallel import Parallel

__all__ = ["Sums"]


class Sums:
    """Losses and what is reported beside them."""

    def __init__(self) -> None:
        self._sums = {"loss": 0.0}
        self._counts: dict[str, Tensor] = {}

    def add(self, loss: Loss, batch: Batch) -> None:
        real = float(batch.weight > 0)  # without weight: another process has more passes
        self._sums["loss"] += real * float(loss.total.detach())
        for name, value in loss.sums.items():
            self._sums[name] = self._sums.get(name, 0.0) + real * float(value)
        for name, value in loss.counts.items():
            count = real * value.detach().double().cpu()
            self._counts[name] = self._counts[name] + count if name in self._counts else count

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
        return objective.reported(values, counts)
