"""Other values for the weights of a module, in the memory that holds the old ones.

Whoever points into that memory (a native program, an optimizer) sees them. What was made of the
old values (prepacked copies, norms in another dtype) is its owner's to make again. `weights_digest`
names a model by what it computes with. Not covered: when replacing is safe
(`Engine.update_weights`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from lmstack.core import InputError, shown
from lmstack.model.config import TransformerConfig
from lmstack.model.formats.assembly import Weight
from lmstack.model.lora.layers import refuse_terms
from lmstack.model.quant.matrix import FACTS, QuantizedMatrix, held_weights
from lmstack.model.transformer import Transformer

__all__ = ["replace_weights", "weights_digest"]


@torch.no_grad()
def replace_weights(module: Transformer, weights: Mapping[str, Weight]) -> None:
    """Copy ``weights``, some or all of the module's by its own names, over those it holds.

    Each must be of the shape, dtype and quantization of the one it replaces: `InputError`
    otherwise, and then nothing has changed.
    """
    refuse_terms(module)
    held = held_weights(module)
    pairs: list[tuple[Tensor, Tensor]] = []
    for key, new in weights.items():
        if key not in held:
            raise InputError(f"the model has no weight {shown(key)}", param="weights")
        old = held[key]
        if _form(old) != _form(new):
            raise InputError(
                f"{key} is {_form(new)}, the model holds {_form(old)}",
                hint="give it in the shape and form that the model was loaded in",
                param="weights",
            )
        if isinstance(old, QuantizedMatrix):
            assert isinstance(new, QuantizedMatrix)
            theirs = new.buffers()
            pairs += [(tensor, theirs[name]) for name, tensor in old.buffers().items()]
        else:
            assert isinstance(new, Tensor)
            pairs.append((old, new))
    for old_tensor, new_tensor in pairs:
        old_tensor.copy_(new_tensor)


def weights_digest(config: TransformerConfig, weights: Mapping[str, Weight]) -> str:
    """``sha256:...`` of a model's config and of every weight as it is held: another one where any
    number that logits are computed from is another, and only there."""
    found = hashlib.sha256(repr(config).encode())
    for key, weight in sorted(weights.items()):
        found.update(f"{key}: {_form(weight)}\n".encode())
        for tensor in [weight] if isinstance(weight, Tensor) else weight.buffers().values():
            data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
            found.update(data.numpy().data)
    return f"sha256:{found.hexdigest()}"


def _form(weight: Weight) -> str:
    """Everything about a weight but its numbers."""
    shape = " by ".join(map(str, weight.shape))
    if isinstance(weight, Tensor):
        return f"{str(weight.dtype).removeprefix('torch.')} of {shape}"
    parts = ", ".join(weight.buffers())
    facts = [f"{name} {getattr(weight, name)}" for name in FACTS]
    return f"quantized, {shape} ({parts}; {', '.join(facts)})"
