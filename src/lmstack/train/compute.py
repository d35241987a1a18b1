"""In which precision the products of a training pass are computed.

``float32`` is the reference. ``bfloat16`` rounds the inputs of matrix products, forwards and
backwards, and keeps sums, norms, the residual stream and the weights that are trained in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.model import REFERENCE_OPS, Ops, ReferenceOps
from lmstack.model.layers import Embedding, Linear
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear

__all__ = ["ops_for"]


class BFloat16Ops(ReferenceOps):
    """`ReferenceOps` with products of bfloat16."""

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        if isinstance(weight, LoraLinear | QuantizedLinear | QuantizedEmbedding):
            return super().linear(x, weight)
        bias = None if weight.bias is None else weight.bias.bfloat16()
        return F.linear(x.bfloat16(), weight.weight.bfloat16(), bias).to(x.dtype)


def ops_for(precision: str) -> Ops:
    """The ops of a recipe's ``precision``."""
    if precision == "float32" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return REFERENCE_OPS
    return BFloat16Ops()
