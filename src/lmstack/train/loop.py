"""The loop: passes, a step, evaluations, checkpoints.

    step k: batches of k -> loss / all predictions of the step -> backward -> clip -> optimizer

A step's gradient is that of the mean over all its predictions, however they are cut into passes
and dealt to processes. What is random follows from (seed, step, pass, process), so a run that
resumes is the run that was never stopped; with dropout, one on another number of processes drops
other places. Does not cover where batches come from (`source`), what is trained (`trained`) and
what becomes of the weights (`run`).
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from types import FrameType
from typing import Any

from lmstack.core import InputError, shown
from lmstack.train.checkpoint import Checkpoints
from lmstack.train.data.examples import Batch
from lmstack.train.loader import steps_of
from lmstack.train.metric import LOSS, metric_named
from lmstack.train.outlook import Outlook
from lmstack.train.resume import changes
from lmstack.train.schedule import lr_share
from lmstack.train.source import UpdateSource
from lmstack.train.sums import Sums, Taken, timed
from lmstack.train.throughput import step_flops
from lmstack.train.trained import TrainedModule

__all__ = ["Interrupted", "Trainer", "Watch"]

_OF_A_RUN = 10
_FAR = 2.0  # times the loss of the start, and 1 more: what overfits does not come to that
# Two signals within so many seconds are one: Ctrl-C reaches a process of torchrun from the terminal
# and again from torchrun.
_ONE_SIGNAL = 2.0


class Interrupted(KeyboardInterrupt):
    """A run that was told to stop and did, after a checkpoint."""


class Watch:
    """What is told of a run while it goes on; a subclass shows it."""

    def data(self, doing: str, done: int, total: int) -> None:
        """While data is read, before the first step; ``done`` and ``total`` are bytes."""

    def reference(self, done: int, total: int) -> None:
        """While the reference is computed, before the first step; tokens."""

    def begins(self, outlook: Outlook) -> None:
        """Before the first step, once it is known what the run will be."""

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        """After each step."""

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        """After each evaluation; the one before the first step is of ``step`` 0."""

    def saved(self, step: int) -> None:
        """After each checkpoint."""

    def note(self, text: str) -> None:
        """What a person should know: a checkpoint that was passed over, a setting that changed."""


@dataclass
class Progress:
    """Where a run is: all of it is in a checkpoint. ``step``: of those done. ``tokens`` seen and
    ``seconds`` spent on steps so far. ``start``: the values of the evaluation before the first
    step, or without any those of the first step. ``first_loss``: of that step. ``best``: the values
    of the best evaluation, at ``best_step``. ``waited``: evaluations since then."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    start: dict[str, float] = field(default_factory=dict)
    first_loss: float | None = None
    best: dict[str, float] | None = None
    best_step: int | None = None
    waited: int = 0

    def to_json(self) -> dict[str, Any]:
        return vars(self).copy()


@dataclass
class Trainer:
    """Trains ``trained`` by the updates of ``source``. ``log``: receives each line of metrics.
    ``facts``: kept in checkpoints, and compared when a run resumes."""

    trained: TrainedModule
    source: UpdateSource
    checkpoints: Checkpoints
    log: Callable[[Mapping[str, Any]], None]
    watch: Watch = field(default_factory=Watch)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.recipe, self.parallel = self.trained.recipe, self.trained.parallel
        self.objective = self.source.objective
        self.steps = steps_of(self.recipe, self.source.train)
        self.progress = Progress()
        self.metric = metric_named(
            self.recipe.metric or self.objective.metric,
            self.objective.metrics(),
            self.recipe.objective_name,
        )
        every = max(self.steps // _OF_A_RUN, 1)
        self._eval_every = self.recipe.eval_every or every
        self._save_every = self.recipe.save_every or every
        self._told_at: float | None = None
        self._is_told_far = False
        self.flops = self.seconds = 0.0  # of this process's steps

    def run(self) -> Mapping[str, float]:
        """Every step that is left; the values of the weights that the module has in the end,
        which are those of the best evaluation."""
        values: Mapping[str, float] = {}
        with self._until_told():
            self._evaluate_before()
            while self.progress.step < self.steps and not self._is_done():
                values = self.step()
                done = self.progress.step
                is_best = done % self._eval_every == 0 or done == self.steps
                is_best = is_best and self._is_better(self.source.evaluate())
                is_told = self.parallel.summed(self._told_at is not None)[0] > 0
                is_last = done == self.steps or self._is_done()
                if is_best or is_last or is_told or done % self._save_every == 0:
                    self.save()
                if is_told and not is_last:
                    raise Interrupted
        return self._finished() or values

    def has_diverged(self, values: Mapping[str, float]) -> bool:
        """Whether what `run` gave is no number, or a loss far above that of the start. Never where
        a loss has no direction, as that of an objective which learns from rewards."""
        progress = self.progress
        if progress.start and self.source.validation is not None and progress.best is None:
            return True  # no evaluation was a number
        return self._is_far(values.get("loss"), progress.start.get("loss"))

    def _is_far(self, loss: float | None, start: float | None) -> bool:
        if loss is None or start is None or LOSS not in self.objective.metrics():
            return False
        return not math.isfinite(loss) or loss > _FAR * start + 1

    def _evaluate_before(self) -> None:
        """So that it is known what training changed."""
        if self.progress.step or self.source.validation is None:
            return
        values = self.source.evaluate()
        if self.metric.name not in values:
            raise InputError(
                f"metric is {shown(self.metric.name)}; what is held out gives {', '.join(values)}",
                hint="other rows to validate with, or another metric",
                param="metric",
            )
        self.progress.start = values
        self._show_evaluation(values)

    def _show_evaluation(self, values: Mapping[str, float]) -> None:
        step = self.progress.step
        self.log({"step": step, **{f"validation_{k}": v for k, v in values.items()}})
        self.watch.evaluated(step, values)

    def step(self) -> Mapping[str, float]:
        """One step, of one update or more, and what it was."""
        started, step = time.perf_counter(), self.progress.step
        recipe = self.recipe
        share = lr_share(recipe.schedule, step, self.steps, recipe.warmup, recipe.final_lr)
        taken = Taken()
        for batches in self.source.updates(step):
            self._update(batches, step, share, taken)
        values = dict(self.source.finish(taken.values))
        self.trained.follow(step + 1)
        seconds = time.perf_counter() - started
        self.progress.step += 1
        self.progress.tokens += int(taken.tokens)
        self.progress.seconds += seconds
        self.flops += taken.flops
        self.seconds += seconds
        values |= {
            "lr": share * recipe.lr,
            "gradient": taken.gradient,
            "tokens": float(self.progress.tokens),
            "tokens_per_second": taken.tokens / seconds,
            "flops_per_second": taken.flops / seconds,
            "seconds": self.progress.seconds,
            **{f"seconds_{part}": spent for part, spent in taken.seconds.items()},
        }
        self.log({"step": self.progress.step, "epoch": self.source.train.epoch(step), **values})
        self.watch.step(self.progress.step, self.steps, values)
        self._compare_with_first(values)
        return values

    def _compare_with_first(self, values: Mapping[str, float]) -> None:
        """Say once that the loss of training is far above that of the first step."""
        progress, loss = self.progress, values.get("loss")
        if progress.step == 1:
            progress.first_loss = loss
            progress.start = progress.start or dict(values)
        if not self._is_told_far and self._is_far(loss, progress.first_loss):
            self._is_told_far = True
            self.watch.note(
                f"the loss is {loss:.4g} at step {progress.step}, and was"
                f" {progress.first_loss:.4g} at the first: training diverges; a lower lr"
            )

    def _update(self, batches: Sequence[Batch], step: int, share: float, taken: Taken) -> None:
        """One step of the optimizer, at ``share`` of the highest learning rate."""
        trained, parallel = self.trained, self.parallel
        trained.module.train()
        weight, tokens, flops = parallel.summed(
            sum(batch.weight for batch in batches),
            sum(batch.tokens for batch in batches),
            step_flops(trained.module, batches),
        )
        sums = Sums()
        for batch in batches:
            with timed(taken.seconds, "forward"):
                context = trained.context(step, taken.passes)
                loss = self.objective.loss(trained.model, batch, context)
            part = parallel.world / weight if batch.weight else 0.0
            with timed(taken.seconds, "backward"):
                (loss.total * part).backward()  # type: ignore[no-untyped-call]
            sums.add(loss, batch)
            taken.passes += 1
        norm = trained.clipped()
        taken.add(sums, weight, self.objective, parallel)
        self._check(taken.loss, norm)
        trained.optimizers.step(share)
        taken.tokens, taken.flops = taken.tokens + tokens, taken.flops + flops
        taken.gradient = max(taken.gradient, norm)

    def save(self) -> None:
        """A checkpoint of now. On several processes the first writes it, one tensor gathered at a
        time."""
        parts = chain(self.trained.parts(), self.source.parts(self.progress.step))
        try:
            if self.parallel.is_first:
                state = {
                    **self.progress.to_json(),
                    "learned": self.source.learned,
                    "facts": dict(self.facts),
                    "recipe": self.recipe.to_json(),
                }
                held = ((name, dict(tensors)) for name, tensors in parts)
                self.checkpoints.save(self.progress.step, held, state)
        finally:
            for _, tensors in parts:  # what the first process did not come to, on it too
                for _ in tensors:
                    pass
        self.parallel.wait()
        self.watch.saved(self.progress.step)

    def resume(self) -> int:
        """Go on from the last checkpoint that is whole, at the step given back; 0 where there is
        none. `InputError` where it was another run's."""
        step = self.checkpoints.newest(self.watch.note) if self.parallel.is_first else None
        step = self.parallel.told_by_first(step or 0)
        if not step:
            return 0
        state = self.checkpoints.state(step)
        for name, value in state.pop("facts").items():
            if self.facts.get(name) != value:
                raise InputError(
                    f"the {name} is not that which the run was started with",
                    hint="give it back what it had, or start a run of its own: run=FOLDER",
                    param=name,
                )
        for change in changes(state.pop("recipe"), self.recipe.to_json()):
            self.watch.note(change)
        self.source.learned = state.pop("learned")
        self.progress = Progress(**state)
        self.trained.resume(self.checkpoints, step)
        self.source.resume(self.checkpoints, step)
        return step

    def _check(self, loss: float, norm: float) -> None:
        """`InputError` for an update that must not be made, before it is."""
        step = self.progress.step + 1
        if not math.isfinite(loss) or not math.isfinite(norm):
            kept = self.checkpoints.steps()
            raise InputError(
                f"step {step} gave a loss of {loss:g} and a gradient of {norm:g}; the"
                " weights were not changed by it",
                hint="a lower lr, or other rows"
                + (f"; --resume goes on from the checkpoint at step {kept[-1]}" if kept else ""),
                param="lr",
            )

    def _is_better(self, values: dict[str, float]) -> bool:
        """Whether an evaluation's values are the best so far, which they then become."""
        if not values:
            return False
        self._show_evaluation(values)
        name, best = self.metric.name, self.progress.best
        is_better = self.metric.is_better(values[name], None if best is None else best[name])
        self.progress.waited = 0 if is_better else self.progress.waited + 1
        if is_better:
            self.progress.best, self.progress.best_step = values, self.progress.step
        return is_better

    def _is_done(self) -> bool:
        patience = self.recipe.patience
        return patience is not None and self.progress.waited >= patience

    def _finished(self) -> dict[str, float]:
        """The weights that are kept: those of the best evaluation, averaged if they are."""
        self.trained.finish(self.checkpoints, self.progress.best_step)
        return self.progress.best or {}

    @contextmanager
    def _until_told(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM lets the step end and a checkpoint be written; a second one
        stops at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def told(_number: int, _frame: FrameType | None) -> None:
            now = time.monotonic()
            echo = _ONE_SIGNAL if self.parallel.world > 1 else 0.0
            if self._told_at is not None and now - self._told_at >= echo:
                raise KeyboardInterrupt
            self._told_at = now

        signals = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(number, told) for number in signals]
        try:
            yield
        finally:
            for number, handler in zip(signals, before, strict=True):
                signal.signal(number, handler)
