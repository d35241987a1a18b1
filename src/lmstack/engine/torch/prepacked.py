"""Linear layers on weights that oneDNN laid out beforehand: the reference ops, faster.

Plain torch hands oneDNN a row-major matrix at every call. Reordered once into oneDNN's own
blocks, the same product reads memory at full speed: about twice as fast for one to eight rows
in bfloat16 and float32, and never slower. Results differ from the reference's by the order of
sums at most; in bfloat16 on AMD Zen 4 they are bit-equal.

For inference: no gradients. Costs a second copy of the matrices. A dtype that oneDNN has no
blocks for on this processor (bfloat16 without AVX-512) stays with the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from lmstack.model import REFERENCE_OPS, ForwardContext, ReferenceOps, Transformer
from lmstack.model.layers import Embedding, Linear
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear

__all__ = ["PrepackedOps", "inference_context"]

# Rows that oneDNN chooses the layout for. A layout for 1 row is slow at 32; one for 32 is
# within noise of the best at every count (measured from 1 to 512 rows).
LAYOUT_ROWS = 32


@dataclass(frozen=True, slots=True)
class _Prepacked:
    """``blocks`` of ``source`` at ``version``: a weight that changed is prepacked again."""

    source: Tensor
    version: int
    blocks: Tensor


class PrepackedOps(ReferenceOps):
    """One object a model: it keeps the prepacked weights for as long as it lives."""

    def __init__(self) -> None:
        self._kept: dict[int, _Prepacked] = {}

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        if isinstance(weight, LoraLinear | QuantizedLinear | QuantizedEmbedding):
            # Of an adapter it asks for that of its base; a dequantized weight is of no lasting.
            return super().linear(x, weight)
        source = weight.weight
        trains = torch.is_grad_enabled() and (x.requires_grad or source.requires_grad)
        if trains or not _can_pack(source.dtype):
            return super().linear(x, weight)
        held = self._kept.get(id(weight))
        if held is None or held.source is not source or held.version != source._version:
            held = self._pack(weight)
        out: Tensor = torch.ops.mkldnn._linear_pointwise(
            x, held.blocks, weight.bias, "none", [], ""
        )
        return out

    def _pack(self, weight: Linear | Embedding) -> _Prepacked:
        source = weight.weight
        blocks = torch.ops.mkldnn._reorder_linear_weight(source.detach(), LAYOUT_ROWS)
        held = self._kept[id(weight)] = _Prepacked(source, source._version, blocks)
        return held


def inference_context(module: Transformer) -> ForwardContext:
    """To run ``module`` fast without gradients: prepacked ops for weights of 16 bits, where
    oneDNN has blocks for them. float32 is there to be compared with, so it stays with the
    reference. Whoever keeps the context keeps the prepacked copies."""
    narrow = module.dtype in (torch.bfloat16, torch.float16) and module.device.type == "cpu"
    return ForwardContext(PrepackedOps() if narrow and _can_pack(module.dtype) else REFERENCE_OPS)


@cache
def _can_pack(dtype: torch.dtype) -> bool:
    """Whether oneDNN has blocks for ``dtype`` on this processor."""
    one = torch.eye(2, dtype=dtype)
    try:
        blocks = torch.ops.mkldnn._reorder_linear_weight(one, LAYOUT_ROWS)
        torch.ops.mkldnn._linear_pointwise(one, blocks, None, "none", [], "")
    except (AttributeError, RuntimeError, NotImplementedError):
        return False
    return True
