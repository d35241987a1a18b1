"""The loop: passes, a step, evaluations, checkpoints.

    step k: batches of k -> loss / all predictions of the step -> backward -> clip -> optimizer

A step's gradient is that of the mean over all its predictions, however they are cut into passes
and dealt to processes. What is random follows from (seed, step, pass), so a run that resumes is
the run that was never stopped. Does not cover where examples come from (`data`) and what becomes of
the weights (`run`).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from lmstack.core import InputError
from lmstack.model import Dropout, ForwardContext, Ops, Transformer
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.data.examples import Batch
from lmstack.train.loader import Loader
from lmstack.train.objectives.objective import Loss, Objective
from lmstack.train.optim import Optimizers
from lmstack.train.parallel import Parallel
from lmstack.train.recipe import Recipe
from lmstack.train.schedule import lr_share

__all__ = ["Interrupted", "Trainer", "Watch"]

_OF_A_RUN = 10
# Metrics of which more is better; of all others less is.
_RISING = ("accuracy", "f1", "ndcg")


class Interrupted(KeyboardInterrupt):
    """A run that was told to stop and did, after a checkpoint."""


class Watch:
    """What is told of a run while it goes on; a subclass shows it."""

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """After each step."""

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """After each evaluation."""

    def saved(self, step: int) -> None:
        """After each checkpoint."""


@dataclass
class Progress:
    """Where a run is: all of it is in a checkpoint. ``step``: of those done. ``tokens``: seen so
    far. ``waited``: evaluations since the best."""

    step: int = 0
    tokens: int = 0
    best: float | None = None
    best_step: int | None = None
    waited: int = 0

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


@dataclass
class Trainer:
    """Trains ``module`` in place. ``log``: receives each line of metrics. ``facts``: kept in
    checkpoints, and compared when a run resumes."""

    module: Transformer
    objective: Objective
    train: Loader
    validation: Loader | None
    recipe: Recipe
    checkpoints: Checkpoints
    ops: Ops
    log: Callable[[Mapping[str, Any]], None]
    watch: Watch = field(default_factory=Watch)
    parallel: Parallel = field(default_factory=Parallel)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = self.parallel.wrapped(self.module)
        self.optimizers = Optimizers(self.module, self.recipe)
        self.steps = self.recipe.steps or max(self.train.steps(self.recipe.epochs), 1)
        self.progress = Progress()
        self._average: dict[str, Tensor] = {}
        if self.recipe.ema is not None:
            trained = self.optimizers.trained.items()
            self._average = {name: weight.detach().clone() for name, weight in trained}
        every = max(self.steps // _OF_A_RUN, 1)
        self._eval_every = self.recipe.eval_every or every
        self._save_every = self.recipe.save_every or every
        self._stop = threading.Event()

    def run(self) -> Mapping[str, float]:
        """Every step that is left; the values of the weights that the module has in the end,
        which are those of the best evaluation."""
        values: Mapping[str, float] = {}
        with self._until_told():
            while self.progress.step < self.steps and not self._is_done():
                values = self.step()
                done = self.progress.step
                if done % self._eval_every == 0 or done == self.steps:
                    values = self._evaluated() or values
                if done % self._save_every == 0 or done == self.steps or self._stop.is_set():
                    self.save()
                if self._stop.is_set():
                    raise Interrupted
        return self._finished() or values

    def step(self) -> Mapping[str, float]:
        """One step of the optimizer, and what it was."""
        started, step = time.perf_counter(), self.progress.step
        batches = self.train.batches(step)
        weight, tokens = self.parallel.summed(
            sum(batch.weight for batch in batches), sum(batch.tokens for batch in batches)
        )
        sums = {"loss": 0.0}
        self.module.train()
        for place, batch in enumerate(batches):
            loss = self._loss(batch, step, place)
            part = self.parallel.world / max(weight, 1.0) if batch.weight else 0.0
            (loss.total * part).backward()  # type: ignore[no-untyped-call]
            _add(sums, loss, batch)
        norm = self._clipped()
        values = {name: total / max(weight, 1.0) for name, total in self._total(sums).items()}
        if not math.isfinite(values["loss"]) or not math.isfinite(norm):
            raise InputError(
                f"step {step + 1} gave a loss of {values['loss']:g} and a gradient of {norm:g}; the"
                " weights were not changed by it",
                hint="a lower lr, or the rows of this step; --resume goes on from the last"
                " checkpoint",
                param="lr",
            )
        recipe = self.recipe
        share = lr_share(recipe.schedule, step, self.steps, recipe.warmup, recipe.final_lr)
        self.optimizers.step(share)
        self._follow()
        self.progress.step += 1
        self.progress.tokens += int(tokens)
        seconds = time.perf_counter() - started
        values |= {
            "lr": share * recipe.lr,
            "gradient": norm,
            "tokens": float(self.progress.tokens),
            "tokens_per_second": tokens / seconds,
        }
        self.log({"step": self.progress.step, "epoch": self.train.epoch(step), **values})
        self.watch.step(self.progress.step, self.steps, values)
        return values

    def evaluate(self) -> dict[str, float]:
        """The validation's values, of the averaged weights where there are any."""
        if self.validation is None:
            return {}
        sums, weight = {"loss": 0.0}, 0.0
        self.module.eval()
        with torch.no_grad(), self._averaged():
            for step in range(self.validation.steps(1)):
                for batch in self.validation.batches(step):
                    context = ForwardContext(ops=self.ops)
                    _add(sums, self.objective.loss(self.model, batch, context), batch)
                    weight += batch.weight
        (weight,) = self.parallel.summed(weight)
        return {name: total / max(weight, 1.0) for name, total in self._total(sums).items()}

    def save(self) -> None:
        """A checkpoint of now."""
        parts = {
            "weights": self.parallel.whole(self.optimizers.trained),
            "optimizer": self.parallel.whole(self.optimizers.state()),
        }
        if self._average:
            parts["average"] = self.parallel.whole(self._average)
        if self.parallel.is_first:
            state = {**self.progress.to_json(), "facts": dict(self.facts)}
            self.checkpoints.save(self.progress.step, parts, state)
        self.parallel.wait()
        self.watch.saved(self.progress.step)

    def resume(self, step: int) -> None:
        """Go on from the checkpoint at ``step``; `InputError` where it was another run's."""
        state = self.checkpoints.state(step)
        for name, value in state.pop("facts", {}).items():
            if self.facts.get(name) != value:
                raise InputError(
                    f"the checkpoint was made with another {name}",
                    hint="give it back what it had, or start a run of its own: run=FOLDER",
                    param=name,
                )
        self.progress = Progress(**state)
        self._put(self.checkpoints.tensors(step, "weights"), self.optimizers.trained)
        held = self.checkpoints.tensors(step, "optimizer")
        self.optimizers.load_state(self.parallel.dealt(held, self.optimizers.trained))
        if self._average:
            self._put(self.checkpoints.tensors(step, "average"), self._average)

    def _loss(self, batch: Batch, step: int, place: int) -> Loss:
        seed = hash((self.recipe.seed, step, place, self.parallel.rank)) & ((1 << 63) - 1)
        torch.manual_seed(seed)  # of dropout in adapters
        dropout = Dropout(self.recipe.dropout, seed) if self.recipe.dropout else None
        context = ForwardContext(
            ops=self.ops, dropout=dropout, checkpoint=self.recipe.checkpointing
        )
        return self.objective.loss(self.model, batch, context)

    def _clipped(self) -> float:
        trained = list(self.optimizers.trained.values())
        longest = math.inf if self.recipe.clip is None else self.recipe.clip
        norm = torch.nn.utils.clip_grad_norm_(trained, longest)
        return float(self.parallel.whole({"norm": norm})["norm"])

    def _total(self, sums: Mapping[str, float]) -> dict[str, float]:
        return dict(zip(sums, self.parallel.summed(*sums.values()), strict=True))

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights."""
        if self.recipe.ema is None:
            return
        for name, weight in self.optimizers.trained.items():
            self._average[name].lerp_(weight, 1 - self.recipe.ema)

    @contextmanager
    def _averaged(self) -> Iterator[None]:
        """The module with the averaged weights meanwhile."""
        if not self._average:
            yield
            return
        kept = {name: w.detach().clone() for name, w in self.optimizers.trained.items()}
        self._put(self._average, self.optimizers.trained)
        try:
            yield
        finally:
            self._put(kept, self.optimizers.trained)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
        for name, value in self.parallel.dealt(values, into).items():
            into[name].copy_(value)

    def _evaluated(self) -> Mapping[str, float]:
        values = self.evaluate()
        if not values:
            return {}
        self.log({"step": self.progress.step, **{f"validation_{k}": v for k, v in values.items()}})
        self.watch.evaluated(self.progress.step, values)
        metric = self.recipe.metric
        if metric not in values:
            raise InputError(
                f"metric is {metric!r}, the validation has {', '.join(values)}", param="metric"
            )
        value, best = values[metric], self.progress.best
        is_better = best is None or (value > best if metric in _RISING else value < best)
        self.progress.waited = 0 if is_better else self.progress.waited + 1
        if is_better:
            self.progress.best, self.progress.best_step = value, self.progress.step
            self.save()
        return values

    def _is_done(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and self.progress.waited >= patience

    def _finished(self) -> dict[str, float]:
        """The weights that are kept: those of the best evaluation, averaged if they are."""
        best = self.progress.best_step
        if best is not None:
            part = "average" if self._average else "weights"
            self._put(self.checkpoints.tensors(best, part), self.optimizers.trained)
            self._average = {}
        elif self._average:
            self._put(self._average, self.optimizers.trained)
            self._average = {}
        self.module.eval()
        return self.evaluate()

    @contextmanager
    def _until_told(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets the step end and a checkpoint be written; a second one
        stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def told(_number: int, _frame: FrameType | None) -> None:
            if self._stop.is_set():
                raise KeyboardInterrupt
            self._stop.set()

        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, told) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)


def _add(sums: dict[str, float], loss: Loss, batch: Batch) -> None:
    if not batch.weight:  # another process has more passes
        return
    sums["loss"] += float(loss.total.detach())
    for name, value in loss.sums.items():
        sums[name] = sums.get(name, 0.0) + float(value)
