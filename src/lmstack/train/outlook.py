"""What a run will be, said before its first step, and what of it a person should think about.

Not covered: what it takes in time and memory (`plan`).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Self

from lmstack.train.assembly import Assembled
from lmstack.train.loader import steps_of
from lmstack.train.objectives.online import OnlineObjective
from lmstack.train.parallel import ALONE, Parallel
from lmstack.train.precision import products_of
from lmstack.train.recipe import Recipe

__all__ = ["Outlook"]

_FEW = 20  # updates, or examples to validate with


@dataclass(frozen=True)
class Outlook:
    """``examples`` to train on, in ``rows`` of an epoch, which are packed up to ``max_length``
    tokens where ``is_packed``. ``held_out``: examples to validate with. ``updates``: steps of the
    optimizer, at most where an objective skips some. ``batch``: rows of a step. ``precision``: of
    products, resolved for this machine. ``asked_length``: the recipe's max_length, longer than
    ``max_length`` where the model has not so many positions. ``holds_out``: whether the recipe asks
    for a validation."""

    examples: int
    held_out: int
    rows: int
    is_packed: bool
    max_length: int
    asked_length: int
    batch: int
    updates: int
    precision: str
    holds_out: bool

    @classmethod
    def of(cls, recipe: Recipe, run: Assembled, parallel: Parallel = ALONE) -> Self:
        """That of ``run``."""
        objective = run.objective
        a_step = objective.updates if isinstance(objective, OnlineObjective) else 1
        steps = steps_of(recipe, run.train)
        return cls(
            examples=len(run.train.lengths),
            held_out=0 if run.validation is None else len(run.validation.lengths),
            rows=run.train.rows(),
            is_packed=objective.packs if recipe.pack is None else recipe.pack,
            max_length=run.reading.max_length,
            asked_length=recipe.max_length,
            batch=recipe.batch,
            updates=steps * a_step,
            precision=products_of(recipe.precision, parallel.device),
            holds_out=bool(recipe.validation),
        )

    def sentence(self) -> str:
        """All of it in one line."""
        packed = f" in {self.rows:,} packed rows of {self.max_length:,} tokens"
        held = f"{self.held_out:,} held out" if self.held_out else "none held out"
        return (
            f"{_count(self.examples, 'example')} to train on{packed if self.is_packed else ''},"
            f" {held}; {_count(self.updates, 'update')}, of {_count(self.batch, 'row')} a step;"
            f" products in {self.precision}"
        )

    def warnings(self) -> list[str]:
        """What is likely to disappoint, a sentence each."""
        found = []
        if self.asked_length > self.max_length:
            found.append(
                f"max_length is {self.asked_length:,} and the model has {self.max_length:,}"
                f" positions; {self.max_length:,} is used"
            )
        if self.updates < _FEW:
            unpacked = ", or pack=false" if self.is_packed else ""
            found.append(
                f"a run of {_count(self.updates, 'update')} learns little; more epochs, a smaller"
                f" batch{unpacked} make more than {_FEW}"
            )
        if self.holds_out and not self.held_out:
            found.append(
                "no example fell to the validation, so what is reported is the loss of training;"
                " validation=0.2 holds out more, and so does a file: validation=FILE"
            )
        elif self.holds_out and self.held_out < _FEW:
            found.append(
                f"{_count(self.held_out, 'example')} to validate with: what fewer than {_FEW}"
                " say of a model is mostly chance"
            )
        return found

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "warnings": self.warnings()}


def _count(number: int, of: str) -> str:
    return f"{number:,} {of}{'' if number == 1 else 's'}"
