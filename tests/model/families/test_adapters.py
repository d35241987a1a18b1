"""An adapter of PEFT on every linear layer of every family, read and written here."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import load_file
from tests.oracles import peft
from torch.testing import assert_close

from lmstack.model import load_adapter, remove_adapter, save_adapter

from .all_cases import CASES
from .cases import batch
from .test_ways import first_of_each

pytestmark = [
    pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated"),
    pytest.mark.filterwarnings("ignore::UserWarning:peft"),
]


def outcome(output):
    """What the head gives, or the hidden states without one."""
    for name in ("logits", "start_logits", "last_hidden_state"):
        found = getattr(output, name, None)
        if found is not None:
            return found
    raise AssertionError(output)


@pytest.mark.parametrize("case", first_of_each(CASES))
@torch.no_grad()
def test_an_adapter_on_all_linear_layers(case, tmp_path):
    values = batch(case, "plain", "none")
    # With a mixture, PEFT's "all-linear" takes in the experts, which are refused here.
    targets = ["q_proj", "v_proj", "o_proj"] if case.family == "Mixtral" else "all-linear"
    transposed = case.family == "GPT-2"
    config = peft.LoraConfig(r=2, lora_alpha=3, target_modules=targets, fan_in_fan_out=transposed)
    theirs = peft.get_peft_model(copy.deepcopy(case.theirs("plain")), config).eval()
    generator = torch.Generator().manual_seed(3)
    for name, parameter in theirs.named_parameters():
        if "lora_" in name:
            parameter.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    theirs.save_pretrained(tmp_path / "theirs")
    module = copy.deepcopy(case.ours("plain"))
    before = outcome(module(**values))
    load_adapter(module, tmp_path / "theirs")
    found = outcome(module(**values))
    assert_close(found, outcome(theirs(**values)).view_as(found))
    assert (found - before).abs().max() > 1e-3
    save_adapter(module, tmp_path / "ours")
    expected, written = (
        load_file(tmp_path / side / "adapter_model.safetensors") for side in ("theirs", "ours")
    )
    assert expected.keys() == written.keys()
    assert all(torch.equal(expected[key], written[key]) for key in expected)
    remove_adapter(module)
    assert torch.equal(outcome(module(**values)), before)
