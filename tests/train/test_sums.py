"""What is summed over batches, updates and processes, by hand."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from lmstack.train.data.examples import Batch
from lmstack.train.objectives.causal import CausalLM
from lmstack.train.objectives.objective import Loss
from lmstack.train.parallel import ALONE, Parallel
from lmstack.train.sums import Sums, Taken, timed


class Given(CausalLM):
    """Reports all that it is given."""

    def reported(
        self, means: Mapping[str, float], counts: Mapping[str, Tensor]
    ) -> dict[str, float]:
        found = {f"{name} {i}": float(x) for name, c in counts.items() for i, x in enumerate(c)}
        return {**means, **found}


def batch(weight: float) -> Batch:
    return Batch({}, torch.zeros(0), weight, 0)


def loss(total: float, right: float, *counts: float, largest: float) -> Loss:
    return Loss(
        torch.tensor(total, requires_grad=True),
        {"accuracy": torch.tensor(right)},
        {"rows": torch.tensor(counts), "more": torch.tensor([right])},
        {"gap": torch.tensor(largest)},
    )


FIRST, SECOND = loss(2.0, 1.0, 3.0, 4.0, largest=-5.0), loss(4.0, 2.0, 5.0, 7.0, largest=-6.0)


def test_losses_and_sums_are_means_counts_add_up_and_the_largest_stands() -> None:
    sums = Sums()
    sums.add(FIRST, batch(2.0))
    sums.add(SECOND, batch(1.0))
    sums.add(loss(9.0, 9.0, 9.0, 9.0, largest=-7.0), batch(0.0))  # another process has more
    found = sums.values(Given(), ALONE, 3.0)
    means = {"loss": 2.0, "accuracy": 1.0}
    assert found == {**means, "rows 0": 8.0, "rows 1": 11.0, "more 0": 3.0, "gap": 0.0}
    assert sums.values(Given(), ALONE, 0.0)["loss"] == 6.0
    one, two = Sums(), Sums()
    one.add(FIRST, batch(2.0))
    two.add(SECOND, batch(1.0))
    one.merge(two)
    one.merge(Sums())
    assert one.values(Given(), ALONE, 3.0) == {**found, "gap": -5.0}


def test_all_processes_are_summed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest of all of them, and twice what one has of the rest."""
    sums, both = Sums(), Parallel(0, 2)
    sums.add(FIRST, batch(2.0))
    monkeypatch.setattr(Parallel, "summed", lambda _, *values: [2 * value for value in values])
    monkeypatch.setattr(Parallel, "of_all", lambda _, value: [value, value + 1])
    assert sums.values(Given(), both, 4.0) == {
        **{"loss": 1.0, "accuracy": 0.5, "rows 0": 6.0, "rows 1": 8.0, "more 0": 2.0},
        "gap": -4.0,
    }


def test_a_step_of_several_updates_has_the_last_ones_loss_and_the_values_of_all() -> None:
    taken, updates = Taken(), []
    for each, weight in ((FIRST, 2.0), (SECOND, 1.0)):
        sums = Sums()
        sums.add(each, batch(weight))
        taken.add(sums, weight, Given(), ALONE)
        updates.append((taken.loss, dict(taken.values)))
    assert updates[0][1]["loss"] == updates[0][0] == 1.0
    assert updates[1][0] == 4.0
    wanted = {"loss": 2.0, "accuracy": 1.0, "rows 0": 8.0, "rows 1": 11.0, "more 0": 3.0}
    assert updates[1][1] == {**wanted, "gap": -5.0}


def test_seconds_are_added_to_those_of_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    now: Any = iter([1.0, 3.5, 10.0, 10.25, 20.0, 21.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    clock: dict[str, float] = {}
    for what in ("forward", "backward", "forward"):
        with timed(clock, what):
            pass
    assert clock == {"forward": 3.5, "backward": 0.25}
