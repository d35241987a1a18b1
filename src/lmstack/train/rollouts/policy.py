"""The weights that a policy computes with, as one who samples from it takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from lmstack.model import Transformer
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.quant.matrix import float_state

__all__ = ["policy_weights"]


@torch.no_grad()
def policy_weights(module: Transformer, *, trained: bool = False) -> dict[str, Tensor]:
    """The weights of ``module`` by the names that they have without an adapter, which is merged
    into copies; quantized ones as the floats that they stand for. The others are views.
    ``trained``: only those that training changes."""
    found = float_state(module)
    if trained:
        changes = {name for name, weight in module.named_parameters() if weight.requires_grad}
        found = {name: weight for name, weight in found.items() if name in changes}
    for path, child in module.named_modules():
        if isinstance(child, LoraLinear):
            for name in [name for name in found if name.startswith(f"{path}.")]:
                del found[name]
            found[f"{path}.weight"] = child.weight
            if child.bias is not None:
                found[f"{path}.bias"] = child.bias
    return found
