"""How a training run is shown while it goes on: bars, notes, and the picture of its curves."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from lmstack.app.cli.output import Output, Progress
from lmstack.app.inspect.training_picture import draw_training
from lmstack.core import ExtraMissingError
from lmstack.train.loop import Watch
from lmstack.train.outlook import Outlook
from lmstack.train.recipe import Recipe

__all__ = ["ShownRun"]


class ShownRun(Watch):
    """One bar while data is read, then one of the steps; the curves at each evaluation."""

    def __init__(self, out: Output, recipe: Recipe, stack: ExitStack) -> None:
        self._out, self._recipe, self._stack = out, recipe, stack
        self._bar: Progress | None = None
        self._doing = ""
        self._can_draw = True

    def data(self, doing: str, done: int, total: int) -> None:
        self._one(f"Data: {doing}", "bytes").update(done, total)

    def reference(self, done: int, total: int) -> None:
        self._one("Computing the reference", "tokens").update(done, total)

    def note(self, text: str) -> None:
        self._out.note(f"note: {text}")

    def begins(self, outlook: Outlook) -> None:
        self._stack.close()
        self._doing = ""
        self._out.note(outlook.sentence())
        for warning in outlook.warnings():
            self.note(warning)

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        name = "reward" if "reward_spread" in values else "loss"  # of samples, or of a step
        speed = f"{name} {values[name]:.3f}, {values['tokens_per_second']:.0f} tokens/s"
        self._one(f"Training {self._recipe.output}", "steps").update(done, total, speed)

    def evaluated(self, step: int, values: Mapping[str, float]) -> None:
        del values
        if step:  # before the first there is no curve
            self.draw()

    def draw(self) -> None:
        """The curves so far; a note, once, where nothing can draw."""
        metrics = self._recipe.folder / "metrics.jsonl"
        if not self._can_draw:
            return
        try:
            title = f"Training {Path(self._recipe.output).name}"
            draw_training(metrics, metrics.with_name("curves.png"), title)
        except ExtraMissingError as error:
            self._can_draw = False
            self.note(f"the curves of {metrics} are not drawn: {error}")

    def _one(self, doing: str, unit: str) -> Progress:
        if self._bar is None or self._doing != doing:
            self._stack.close()
            self._doing = doing
            self._bar = self._stack.enter_context(self._out.progress(doing, unit))
        return self._bar
