"""The named operations that the forward pass is written against, and their reference.

An `Ops` is chosen when a `Transformer` is built. The reference is plain torch: differentiable,
any device and dtype, and the truth that faster sets are tested against op by op. It holds no
weights: a weight arrives as its module, so that a quantized one can take its place (a set that
does not know the kind reads ``weight.weight``, which such a module offers dequantized).

Legend: B batch, T tokens, H heads, D width, hd channels of a head, "..." any leading shape.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import UnsupportedError, shown
from lmstack.model.biases import ScoreBias
from lmstack.model.config import Activation, LayerSpec
from lmstack.model.dot_product import AttentionOptions, scaled_dot_product_attention
from lmstack.model.layers import Embedding, Experts, LayerNorm, Linear, RMSNorm
from lmstack.model.lora.layers import LoraLinear, LowRank
from lmstack.model.positions import RopeSpec
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear, product, rows_of

__all__ = ["REFERENCE_OPS", "Ops", "ReferenceOps", "attention_options"]


class Ops(Protocol):
    """What the forward pass calls. Implementations are stateless and thread-safe."""

    def embedding(self, ids: Tensor, table: Embedding) -> Tensor:
        """(...) token ids to (..., D)."""
        ...

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor: ...

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        """(..., in) to (..., out); an embedding table serves as the tied output layer."""
        ...

    def activation(self, x: Tensor, kind: Activation) -> Tensor: ...

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        """(..., 2F), the gate's half first, to act(gate) * up, (..., F)."""
        ...

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(..., H, hd) rotated by the tables of `RopeSpec.tables`; channels beyond them stay."""
        ...

    def rotary_tables(
        self,
        rope: RopeSpec,
        positions: Tensor,
        head_dim: int,
        dtype: torch.dtype,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cosines and sines for `rotary`; see `RopeSpec.tables`."""
        ...

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        spec: LayerSpec,
        mask: Tensor | None = None,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        """(B, T, Hq, hd) over (B, S, Hkv, hd); see `scaled_dot_product_attention`.

        ``mask`` is boolean, broadcasts to (B, Hq, T, S) and is True where a query attends. A
        query that attends to nothing gets zeros.
        """
        ...

    def varlen_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: Sequence[int],
        spec: LayerSpec,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        """(N, Hq, hd) over (N, Hkv, hd), each within its own of the sequences of ``lengths``,
        which lie end to end; none of them is empty."""
        ...

    def mixture(
        self, x: Tensor, scores: Tensor, up: Experts, down: Experts, kind: Activation, gated: bool
    ) -> Tensor:
        """(N, D) through the experts that ``scores`` (N, experts) weighs above zero, summed."""
        ...


class ReferenceOps:
    """Plain torch."""

    def embedding(self, ids: Tensor, table: Embedding) -> Tensor:
        if isinstance(table, QuantizedEmbedding):
            return table.looked_up(ids)
        return F.embedding(ids, table.weight)

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor:
        if isinstance(norm, LayerNorm):
            return F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps)
        if norm.from_one:
            wide = F.rms_norm(x.float(), x.shape[-1:], 1 + norm.weight.float(), norm.eps)
            return wide.to(x.dtype)
        return F.rms_norm(x, x.shape[-1:], norm.weight, norm.eps)

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        if isinstance(weight, LoraLinear):
            return _with_terms(x, self.linear(x, weight.base), weight)
        if isinstance(weight, QuantizedLinear | QuantizedEmbedding):
            return product(x, weight)
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
        if kind == "tanh":
            return torch.tanh(x)
        if kind == "quick_gelu":
            return x * torch.sigmoid(1.702 * x)
        raise UnsupportedError(f"no activation {shown(kind)}")

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return self.activation(gate, kind) * up

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if cos.shape[-1] < x.shape[-1]:
            turned, rest = x.split_with_sizes((cos.shape[-1], x.shape[-1] - cos.shape[-1]), dim=-1)
            return torch.cat((self.rotary(turned, cos, sin), rest), dim=-1)
        first, second = x.chunk(2, dim=-1)
        # Two products and a sum, each rounded, as in transformers. A fused multiply-add is a
        # little nearer to the truth, and over many layers visibly another number.
        return (x * cos).add_(torch.cat((second, first), dim=-1).mul_(sin))

    def rotary_tables(
        self,
        rope: RopeSpec,
        positions: Tensor,
        head_dim: int,
        dtype: torch.dtype,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        return rope.tables(positions, head_dim, dtype, length)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        spec: LayerSpec,
        mask: Tensor | None = None,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        turned = (x.transpose(-3, -2) for x in (q, k, v))
        options = attention_options(spec, mask, bias)
        return scaled_dot_product_attention(*turned, **options).transpose(-3, -2)

    def varlen_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: Sequence[int],
        spec: LayerSpec,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        # Neighbours of equal length are one batch: nothing is padded and nothing masked.
        runs = [(len(list(run)), T) for T, run in itertools.groupby(lengths)]
        splits = (x.split_with_sizes([B * T for B, T in runs]) for x in (q, k, v))
        parts = []
        for run, *qkv in zip(runs, *splits, strict=True):
            qs, ks, vs = (x.view(*run, *x.shape[1:]) for x in qkv)
            parts.append(self.attention(qs, ks, vs, spec, None, bias).flatten(0, 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def mixture(
        self, x: Tensor, scores: Tensor, up: Experts, down: Experts, kind: Activation, gated: bool
    ) -> Tensor:
        act = self.glu if gated else self.activation
        out = torch.zeros_like(x)
        for expert in scores.detach().any(0).nonzero().flatten().tolist():
            rows = scores[:, expert].nonzero().flatten()
            inner = act(F.linear(x[rows], up.weight[expert].to(x.dtype)), kind)
            outer = F.linear(inner, down.weight[expert].to(x.dtype))
            part = outer * scores[rows, expert, None]
            out = out.index_add(0, rows, part.to(out.dtype))
        return out


def attention_options(
    spec: LayerSpec, mask: Tensor | None, bias: ScoreBias | None
) -> AttentionOptions:
    """What `scaled_dot_product_attention` is asked for in a layer."""
    return {
        "mask": mask,
        "causal": spec.causal,
        "window": spec.window,
        "scale": spec.scale,
        "softcap": spec.softcap,
        "bias": bias,
    }


def _with_terms(x: Tensor, out: Tensor, weight: LoraLinear) -> Tensor:
    """``out`` of the base for ``x``, its rows changed by the terms on them. Not in place, because
    gradients need the rows of before."""
    parts, end = [], 0
    for term in weight.ordered():
        rows = out[..., term.start : term.stop]
        changed = rows + _change(x, rows, term, weight.base)
        parts += [out[..., end : term.start], changed.to(out.dtype)]
        end = term.stop
    parts = [part for part in (*parts, out[..., end:]) if part.shape[-1]]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def _change(x: Tensor, rows: Tensor, term: LowRank, base: Linear) -> Tensor:
    """What ``term`` adds to ``rows`` of the output of ``base`` for ``x``, without the product of
    its factors being formed for LoRA; for DoRA only its norms are."""
    drops = term.training and term.dropout > 0
    dropped = F.dropout(x, term.dropout) if drops else x
    low = F.linear(dropped.to(term.A.dtype), term.A)
    change = F.linear(low, term.B) * term.scale
    if term.magnitude is None:
        return change
    weight = rows_of(base, term.start, term.stop)
    gains = term.gains(weight)
    if drops:
        rows = F.linear(dropped, weight.to(dropped.dtype))
    elif base.bias is not None:
        rows = rows - base.bias[term.start : term.stop]
    return (gains - 1) * rows + gains * change


REFERENCE_OPS = ReferenceOps()
