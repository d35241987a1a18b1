"""The named operations that the forward pass is written against, and their reference.

An `Ops` is chosen when a `Transformer` is built. The reference is plain torch: differentiable,
any device and dtype, and the truth that faster sets are tested against op by op. It holds no
weights: a weight arrives as its module, so that a quantized one can take its place (a set that
does not know the kind reads ``weight.weight``, which such a module offers dequantized).

Legend: B batch, T tokens, H heads, D width, hd channels of a head, "..." any leading shape.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import UnsupportedError, shown
from lmstack.model.config import Activation
from lmstack.model.layers import Embedding, LayerNorm, Linear, RMSNorm

__all__ = ["REFERENCE_OPS", "Ops", "ReferenceOps"]


class Ops(Protocol):
    """What the forward pass calls. Implementations are stateless and thread-safe."""

    def embedding(self, ids: Tensor, table: Embedding) -> Tensor:
        """(...) token ids to (..., D)."""
        ...

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor: ...

    def linear(self, x: Tensor, weight: Linear | Embedding) -> Tensor:
        """(..., in) to (..., out); an embedding table serves as the tied output layer."""
        ...

    def activation(self, x: Tensor, kind: Activation) -> Tensor: ...

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        """(..., 2F), the gate's half first, to act(gate) * up, (..., F)."""
        ...

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(..., H, hd) rotated by the tables of `RopeSpec.tables`."""
        ...

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        """(B, T, Hq, hd) over (B, S, Hkv, hd).

        ``mask`` is boolean, broadcasts to (B, Hq, T, S) and is True where a query may look; it
        excludes ``causal``. A query that may look nowhere gets zeros.
        """
        ...


class ReferenceOps:
    """Plain torch."""

    def embedding(self, ids: Tensor, table: Embedding) -> Tensor:
        return F.embedding(ids, table.weight)

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor:
        if isinstance(norm, LayerNorm):
            return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
        return F.rms_norm(x, x.shape[-1:], norm.weight, norm.eps)

    def linear(self, x: Tensor, weight: Linear | Embedding) -> Tensor:
        return F.linear(x, weight.weight, weight.bias)

    def activation(self, x: Tensor, kind: Activation) -> Tensor:
        if kind == "silu":
            return F.silu(x)
        if kind == "gelu":
            return F.gelu(x)
        if kind == "gelu_tanh":
            return F.gelu(x, approximate="tanh")
        if kind == "relu":
            return F.relu(x)
        raise UnsupportedError(f"no activation {shown(kind)}")

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self.activation(gate, kind) * up

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        # Two products and a sum, each rounded, as in transformers. A fused multiply-add is a
        # little nearer to the truth, and over many layers visibly another number.
        return (x * cos).add_(torch.cat((second, first), dim=-1).mul_(sin))

    def attention(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, scale: float
    ) -> Tensor:
        q, k, v = (x.transpose(-3, -2) for x in (q, k, v))
        groups = q.shape[-3] // k.shape[-3]
        if groups > 1:
            k, v = (x.repeat_interleave(groups, dim=-3) for x in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale)
        return out.transpose(-3, -2)


REFERENCE_OPS = ReferenceOps()
