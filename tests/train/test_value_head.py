"""The value head: it changes nothing, is trained and kept in checkpoints, and is never saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tests.train import tiny

from lmstack.model import ForwardContext, load_module, write_folder
from lmstack.model.quant.matrix import held_weights
from lmstack.train.compute import ops_for
from lmstack.train.value_head import add_value_head, value_head_of


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_fresh_head_expects_nothing_and_leaves_the_policy_as_it_was(precision: str) -> None:
    module = tiny.model("llama", dtype=torch.float32)
    ids = torch.arange(3, 12)[None]
    context = ForwardContext(ops=ops_for(precision, module))
    before = module(ids, context=context)
    head = add_value_head(module)
    after = module(ids, context=context)
    assert torch.equal(before.logits, after.logits)
    values = head(after.last_hidden_state)
    assert values.dtype == torch.float32
    assert torch.equal(values, torch.zeros(1, 9))


@pytest.mark.parametrize("family", tiny.DECODERS)
def test_a_saved_model_has_no_value_head_and_a_checkpoint_has(family: str, tmp_path: Path) -> None:
    module = tiny.model(family)
    add_value_head(module)
    write_folder(module, tmp_path / "model", {}, {})
    again = load_module(tmp_path / "model", dtype=torch.float64)
    assert held_weights(module).keys() == again.state_dict().keys()
    ids = torch.arange(3, 12)[None]
    assert torch.equal(module(ids).logits, again(ids).logits)
    first = tiny.trainer(module, tmp_path / "run", tiny.examples(8))
    torch.nn.init.normal_(value_head_of(module).weight)
    first.step()
    first.save()
    other = tiny.model(family, seed=1)
    add_value_head(other)
    assert tiny.trainer(other, tmp_path / "run", tiny.examples(8)).resume() == 1
    for name, weight in tiny.weights(module).items():
        assert torch.equal(weight, other.get_parameter(name)), name
