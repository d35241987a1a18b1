"""What every objective does alike."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
import torch

from lmstack.model import ForwardContext
from lmstack.train.data.examples import Batch
from lmstack.train.objectives import OBJECTIVES
from lmstack.train.value_head import ValueHead


class Asked(BaseException):
    pass


class Model:
    """Tells what its first pass was asked for."""

    def __call__(self, **given: Any) -> Any:
        raise Asked(given)

    def get_submodule(self, name: str) -> ValueHead:
        del name
        return ValueHead(4)


@pytest.mark.parametrize("name", sorted({*OBJECTIVES} - {"distillation"}))
def test_a_loss_has_the_ops_of_its_context_and_keeps_no_states_of_blocks(name: str) -> None:
    """A student's teacher is not asked by those."""
    settings = {"rewards": [{"name": "markers", "markers": ["e"]}]}
    more = defaultdict(lambda: torch.ones(2, dtype=torch.int64), kl=torch.zeros(1))
    batch = Batch({"input_ids": torch.zeros(2)}, torch.zeros(2, dtype=torch.int64), 1.0, 2, more)
    context = ForwardContext()
    objective = OBJECTIVES[name].from_mapping(settings if name in ("grpo", "ppo") else {})
    with pytest.raises(Asked) as asked:
        objective.loss(Model(), batch, context)  # type: ignore[arg-type]
    (given,) = asked.value.args
    assert given["context"] is context
    assert given["output_hidden_states"] is False
    assert given["input_ids"] is batch.inputs["input_ids"]
