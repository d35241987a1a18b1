"""The module that a run trains, with what belongs to it: its shards, optimizers and average.

Everything that changes or exchanges its weights is here, and the context of its passes. Does not
cover what the passes are of (`source`), nor when they happen (`loop`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.model import Dropout, ForwardContext, Ops, Transformer
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.optim import Optimizers
from lmstack.train.parallel import ALONE, Parallel
from lmstack.train.recipe import Recipe

__all__ = ["TrainedModule"]


@dataclass
class TrainedModule:
    """``module``, which is trained in place; ``model`` is the same, sharded over processes.
    ``average``: that of its trained weights, of a run that keeps one."""

    module: Transformer
    recipe: Recipe
    ops: Ops
    parallel: Parallel = ALONE

    def __post_init__(self) -> None:
        self.module.zero_grad()  # of a step that was broken off
        self.model = self.parallel.wrapped(self.module)
        self.optimizers = Optimizers(self.module, self.recipe, self.parallel)
        self.average = self.copies() if self.recipe.ema is not None else {}

    @property
    def weights(self) -> Mapping[str, Tensor]:
        """What is trained of it."""
        return self.optimizers.trained

    def copies(self) -> dict[str, Tensor]:
        return {name: weight.detach().clone() for name, weight in self.weights.items()}

    # -- passes --------------------------------------------------------------------------------

    def context(self, step: int, place: int) -> ForwardContext:
        """Of the training pass ``place`` of ``step``: the same one always drops the same."""
        seed = hash((self.recipe.seed, step, place, self.parallel.rank)) & ((1 << 63) - 1)
        torch.manual_seed(seed)  # of dropout in adapters
        dropout = Dropout(self.recipe.dropout, seed) if self.recipe.dropout else None
        return ForwardContext(ops=self.ops, dropout=dropout, checkpoint=self.recipe.checkpointing)

    def clipped(self) -> float:
        """The length that the gradient had, which is clipped by now."""
        norm = torch.nn.utils.clip_grad_norm_(list(self.weights.values()), self.recipe.clip)
        return float(self.parallel.whole(norm))

    @torch.no_grad()
    def follow(self, done: int) -> None:
        """Move the average towards the weights after ``done`` steps, faster in the first, so that
        a short run is not an average of what was there before it."""
        if self.recipe.ema is None:
            return
        decay = min(self.recipe.ema, (1 + done) / (10 + done))
        for name, weight in self.weights.items():
            self.average[name].lerp_(weight, 1 - decay)

    # -- other weights -------------------------------------------------------------------------

    @contextmanager
    def having(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """The module with other values of what is trained meanwhile, unless there are none."""
        if not weights:
            yield
            return
        kept = self.copies()
        self.load(weights.items())
        try:
            yield
        finally:
            self.load(kept.items())

    def load(self, values: Iterable[tuple[str, Tensor]]) -> None:
        """Give what is trained other values."""
        self.parallel.reshard(self.module)
        self._put(values, self.weights)

    @torch.no_grad()
    def _put(self, values: Iterable[tuple[str, Tensor]], into: Mapping[str, Tensor]) -> None:
        for name, value in values:
            into[name].copy_(self.parallel.dealt(value, into[name]))

    # -- checkpoints ---------------------------------------------------------------------------

    def parts(self) -> Iterator[tuple[str, Iterable[tuple[str, Tensor]]]]:
        """Its files of a checkpoint."""
        yield "weights", self.parallel.gathered(self.weights)
        yield "optimizer", self.parallel.gathered(self.optimizers.state())
        if self.average:
            yield "average", self.parallel.gathered(self.average)

    def resume(self, checkpoints: Checkpoints, step: int) -> None:
        """Be what it was at ``step``."""
        self.load(checkpoints.tensors(step, "weights"))
        held = checkpoints.tensors(step, "optimizer")
        owners = ((key, value, self.weights[key.rpartition(":")[0]]) for key, value in held)
        self.optimizers.load_state(
            {key: self.parallel.dealt(value, owner) for key, value, owner in owners}
        )
        if self.average:
            self._put(checkpoints.tensors(step, "average"), self.average)

    def finish(self, checkpoints: Checkpoints, best: int | None) -> None:
        """Have the weights that are kept: those of the step ``best``, or of now, averaged if there
        is an average."""
        if best is not None:
            self.load(checkpoints.tensors(best, "average" if self.average else "weights"))
        elif self.average:
            self.load(self.average.items())
        self.average = {}
        self.module.eval()
