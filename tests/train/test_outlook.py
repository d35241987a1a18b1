"""What is said of a run before its first step."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from tests.train import tiny

from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.grpo import GroupRelativePolicy
from lmstack.train.objectives.sft import SupervisedFineTuning
from lmstack.train.outlook import Outlook


class Rows:
    """A loader of ``count`` examples in ``rows`` an epoch."""

    def __init__(self, count: int, rows: int) -> None:
        self.lengths, self._rows = [3] * count, rows

    def rows(self) -> int:
        return self._rows

    def steps(self, epochs: float) -> int:
        return int(self._rows * epochs) // 100


def test_an_outlook_is_that_of_the_run_and_its_recipe() -> None:
    def of(objective: Any, held: int | None, **changes: Any) -> Outlook:
        run = SimpleNamespace(
            objective=objective,
            train=Rows(40, 30),
            validation=None if held is None else Rows(held, 1),
            reading=SimpleNamespace(max_length=16),
        )
        settings = {"max_length": 64, "batch": 5, "epochs": 10.0, "steps": None, **changes}
        return Outlook.of(tiny.recipe(**settings), run)  # type: ignore[arg-type]

    found = of(CausalLM(), 7, validation=0.1)
    assert (found.examples, found.held_out, found.rows, found.batch) == (40, 7, 30, 5)
    assert (found.max_length, found.asked_length, found.updates) == (16, 64, 3)
    assert (found.is_packed, found.holds_out, found.precision) == (True, True, "float32")
    other = of(CausalLM(), None, validation=0.0, pack=False, epochs=1.0, precision="bfloat16")
    assert (other.held_out, other.holds_out, other.is_packed) == (0, False, False)
    assert (other.updates, other.precision) == (1, "bfloat16")
    online = GroupRelativePolicy(rewards=["x"], epochs=2, minibatches=3)
    assert of(online, None, steps=4).updates == 24
    assert of(CausalLM(), None, steps=4).updates == 4
    assert not of(SupervisedFineTuning().replace(), None, pack=False).is_packed


ENOUGH = Outlook(
    **{"examples": 1200, "held_out": 20, "rows": 110, "is_packed": True, "max_length": 64},
    **{"asked_length": 64, "batch": 16, "updates": 20, "precision": "bfloat16", "holds_out": True},
)


def test_all_of_it_is_in_one_line() -> None:
    assert ENOUGH.sentence() == (
        "1,200 examples to train on in 110 packed rows of 64 tokens, 20 held out;"
        " 20 updates, of 16 rows a step; products in bfloat16"
    )
    one = dataclasses.replace(ENOUGH, examples=1, updates=1, batch=1, held_out=0, is_packed=False)
    assert one.sentence() == (
        "1 example to train on, none held out; 1 update, of 1 row a step; products in bfloat16"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, None),
        ({"updates": 19}, "a run of 19 updates learns little"),
        ({"held_out": 19}, "19 examples to validate with"),
        ({"held_out": 1}, "1 example to validate with"),
        ({"held_out": 0}, "no example fell to the validation"),
        ({"held_out": 0, "holds_out": False}, None),
        ({"asked_length": 65}, "max_length is 65 and the model has 64 positions"),
    ],
)
def test_what_is_below_the_bound_is_warned_of_and_what_is_at_it_is_not(
    change: dict[str, Any], said: str | None
) -> None:
    found = dataclasses.replace(ENOUGH, **change).warnings()
    assert len(found) == (said is not None)
    assert all(warning.startswith(str(said)) for warning in found)
    outlook = dataclasses.replace(ENOUGH, **change)
    assert outlook.to_json() == {**vars(outlook), "warnings": found}
