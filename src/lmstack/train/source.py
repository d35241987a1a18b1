"""Where a run's updates come from: the batches of its steps, and how it is evaluated.

`ExampleSource` reads what the data holds; `lmstack.train.rollouts.source` draws answers and learns
from those. The trainer (`loop`) has one and knows no more of it than `UpdateSource`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from lmstack.model import ForwardContext
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.data.examples import Batch
from lmstack.train.loader import Loader
from lmstack.train.objectives.objective import Forward, Objective
from lmstack.train.sums import Sums
from lmstack.train.trained import TrainedModule

__all__ = ["ExampleSource", "UpdateSource"]


class UpdateSource(Protocol):
    """``objective``: what its batches are for. ``train`` and ``validation``: the loaders of its
    rows. ``learned``: what the objective itself learns (`OnlineObjective.learned`), kept in
    checkpoints."""

    @property
    def objective(self) -> Objective: ...

    train: Loader
    validation: Loader | None
    learned: dict[str, float]

    def updates(self, step: int) -> Iterator[Sequence[Batch]]:
        """The passes of each update of ``step``, an update after the other."""
        ...

    def finish(self, values: Mapping[str, float]) -> Mapping[str, float]:
        """What is said of a step, whose updates gave ``values``, once they are made."""
        ...

    def evaluate(self) -> dict[str, float]:
        """The validation's values, of the averaged weights where there are any; empty without."""
        ...

    def parts(self, step: int) -> Iterator[tuple[str, Iterable[tuple[str, Tensor]]]]:
        """Its files of the checkpoint at ``step``."""
        ...

    def resume(self, checkpoints: Checkpoints, step: int) -> None:
        """Go on after ``step``, as it was."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


@dataclass
class ExampleSource:
    """A step's update is made of the examples of its rows."""

    trained: TrainedModule
    objective: Objective
    train: Loader
    validation: Loader | None = None
    learned: dict[str, float] = field(default_factory=dict)

    def updates(self, step: int) -> Iterator[Sequence[Batch]]:
        # Before passes that are linked, which see what their losses will see.
        self.trained.module.train()
        yield self._linked(self.train.batches(step), step)

    def finish(self, values: Mapping[str, float]) -> Mapping[str, float]:
        return values

    def evaluate(self) -> dict[str, float]:
        if self.validation is None:
            return {}
        trained, sums, weight = self.trained, Sums(), 0.0
        trained.module.eval()
        with torch.no_grad(), trained.having(trained.average):
            for step in range(self.validation.steps(1)):
                for batch in self._linked(self.validation.batches(step), step):
                    context = ForwardContext(ops=trained.ops)
                    sums.add(self.objective.loss(trained.model, batch, context), batch)
                    weight += batch.weight
        (weight,) = trained.parallel.summed(weight)
        return sums.values(self.objective, trained.parallel, weight)

    def parts(self, step: int) -> Iterator[tuple[str, Iterable[tuple[str, Tensor]]]]:
        del step
        return iter(())

    def resume(self, checkpoints: Checkpoints, step: int) -> None:
        """What it gives follows from the step alone."""

    def close(self) -> None:
        """It holds nothing."""

    def _linked(self, batches: Sequence[Batch], step: int) -> Sequence[Batch]:
        """`Objective.linked`, each pass as its loss will see it."""
        trained = self.trained
        moved = [batch.to(trained.module.device) for batch in batches]

        def embed(place: int, forward: Forward) -> Tensor:
            is_training = trained.module.training
            context = (
                trained.context(step, place) if is_training else ForwardContext(ops=trained.ops)
            )
            with torch.no_grad():
                return forward(trained.model, moved[place], context)

        return self.objective.linked(moved, embed, trained.parallel.of_all)
