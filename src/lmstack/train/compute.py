"""In which precision the products of a training pass are computed, and by which operations.

``float32`` is the reference. ``bfloat16`` computes matrix products, forwards and backwards, in
bfloat16, as autocast does: weights that are trained, their optimizer, the residual stream and the
statistics of norms stay in float32. Frozen weights are rounded once and kept. ``int8`` is that,
with most products of frozen matrices in 8 bits (`frozen.Int8Matrix`).

What changes for speed and not for the numbers: a gated activation and a norm keep only their inputs
for the backward pass; the terms of an adapter are added to the rows of the base's output in place.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.model import REFERENCE_OPS, Ops, ReferenceOps
from lmstack.model.biases import ScoreBias
from lmstack.model.blocks import Block
from lmstack.model.config import Activation, LayerSpec
from lmstack.model.layers import Embedding, LayerNorm, Linear, RMSNorm
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.positions import RopeSpec
from lmstack.train.frozen import (
    FrozenMatrices,
    Int8Gradient,
    Int8Matrix,
    Matrix,
    is_frozen,
    product,
)
from lmstack.train.short_attention import (
    LONGEST,
    continued_attention,
    groups_of,
    short_attention,
)

__all__ = ["BFloat16Ops", "ops_for", "products_of"]


class BFloat16Ops(ReferenceOps):
    """`ReferenceOps` with products of bfloat16. RMSNorm and linear layers give bfloat16, whatever
    they are given. ``kinds``: of frozen layers, how they are held if not in bfloat16. It keeps
    copies of frozen weights, so have one for each run."""

    def __init__(self, kinds: Mapping[nn.Module, type[Matrix]] | None = None) -> None:
        self._frozen = FrozenMatrices(kinds or {})

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor:
        if isinstance(norm, LayerNorm):
            return super().norm(x, norm)
        gain = norm.weight.float() + 1 if norm.from_one else norm.weight
        found: Tensor = _RootMeanSquare.apply(x, gain, norm.eps)  # type: ignore[no-untyped-call]
        return found

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        x = x.bfloat16()
        terms = weight.ordered() if isinstance(weight, LoraLinear) else []
        base = weight.base if isinstance(weight, LoraLinear) else weight
        if any(term.magnitude is not None for term in terms):
            return super().linear(x, weight).bfloat16()
        if not is_frozen(base):
            bias = None if base.bias is None else base.bias.bfloat16()
            return F.linear(x, base.weight.bfloat16(), bias)
        return product(x, self._frozen.of(base), base.bias, terms)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if x.dtype != torch.bfloat16 or cos.shape[-1] < x.shape[-1]:
            return super().rotary(x, cos.to(x.dtype), sin.to(x.dtype))
        found: Tensor = _Rotary.apply(x, cos, sin)  # type: ignore[no-untyped-call]
        return found

    def rotary_tables(
        self,
        rope: RopeSpec,
        positions: Tensor,
        head_dim: int,
        dtype: torch.dtype,
        length: int | None = None,
    ) -> tuple[Tensor, Tensor]:
        del dtype  # of the residual stream; queries and keys are bfloat16
        return super().rotary_tables(rope, positions, head_dim, torch.bfloat16, length)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        spec: LayerSpec,
        mask: Tensor | None = None,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        T, S = q.shape[-3], k.shape[-3]
        is_plain = spec.causal and mask is None and bias is None and spec.softcap is None
        sees_all = spec.window is None or spec.window >= S
        if is_plain and sees_all and T < S <= 2 * LONGEST and q.dim() == 4:
            scale = q.shape[-1] ** -0.5 if spec.scale is None else spec.scale
            return continued_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), scale=scale)
        # Torch's fused kernel is slower backwards in bfloat16 than in float32.
        return super().attention(q.float(), k.float(), v.float(), spec, mask, bias).bfloat16()

    def varlen_attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: Sequence[int],
        spec: LayerSpec,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        plain = bias is None and spec.softcap is None
        scale = q.shape[-1] ** -0.5 if spec.scale is None else spec.scale
        parts = []
        for group in groups_of(lengths):
            rows = slice(group.start, group.start + group.tokens)
            qs, ks, vs = (x[rows].bfloat16() for x in (q, k, v))
            sees_all = spec.window is None or spec.window >= group.longest
            if plain and sees_all and group.longest <= LONGEST:
                part = short_attention(qs, ks, vs, group.lengths, causal=spec.causal, scale=scale)
            else:
                part = super().varlen_attention(qs, ks, vs, group.lengths, spec, bias)
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        if kind != "silu":
            return super().glu(gate_up, kind)
        found: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
        return found


class _RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * gain to bfloat16, statistics in float32. Keeps x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        wide = x.float()
        scale = _inverse_rms(wide, eps)
        ctx.save_for_backward(x, gain, scale)
        return (wide * scale).bfloat16() * gain.bfloat16()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, scale = ctx.saved_tensors
        normed, grad = x.float() * scale, grads[0].float()
        of_gain = None
        if ctx.needs_input_grad[1]:
            of_gain = (grad * normed).flatten(0, -2).sum(0).to(gain.dtype)
        grad = grad * gain.float()
        # d/dx of x * scale(x): the part of the gradient along x is taken away.
        along = (grad * normed).mean(-1, keepdim=True)
        into = grad.addcmul_(normed, along, value=-1).mul_(scale)
        return into.to(x.dtype), of_gain, None


def _inverse_rms(x: Tensor, eps: float) -> Tensor:
    # A norm is one pass over memory; a square and a mean are two, and torch's `rms_norm` on a CPU
    # is five.
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()


class _SwiGLU(torch.autograd.Function):
    """silu(gate) * up of (..., 2F). Keeps its input and computes silu again backwards."""

    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        ctx.save_for_backward(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,), (grad,) = ctx.saved_tensors, grads
        gate, up = gate_up.chunk(2, dim=-1)
        into = torch.empty_like(gate_up)
        of_gate, of_up = into.chunk(2, dim=-1)
        torch.mul(grad, F.silu(gate), out=of_up)
        torch.ops.aten.silu_backward.grad_input(grad * up, gate, grad_input=of_gate)
        return into


class _Rotary(torch.autograd.Function):
    """`ReferenceOps.rotary`, whose backward pass rotates the other way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _rotated(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _rotated(grads[0], cos, -sin), None, None


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    out = x * cos
    halves = zip(x.chunk(2, dim=-1)[::-1], sin.chunk(2, dim=-1), out.chunk(2, dim=-1), strict=True)
    for other, turn, half in halves:
        half.addcmul_(other, turn)
    return out


def products_of(precision: str) -> str:
    """A recipe's ``precision``, with ``auto`` resolved for this machine: a processor that has to
    take bfloat16 apart multiplies it at a fraction of the rate of float32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if _multiplies_bfloat16() else "float32"


@functools.cache
def _multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it; only Linux says."""
    try:
        stated = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return not {"avx512_bf16", "amx_bf16", "bf16"}.isdisjoint(stated.split())


def ops_for(precision: str, module: nn.Module) -> Ops:
    """The ops of a recipe's ``precision`` for a run of ``module``."""
    precision = products_of(precision)
    if precision == "float32":
        return REFERENCE_OPS
    return BFloat16Ops(_int8_kinds(module) if precision == "int8" else {})


def _int8_kinds(module: nn.Module) -> dict[nn.Module, type[Matrix]]:
    """Matrices of blocks are multiplied in 8 bits, but for queries and keys forwards: their inputs
    have outliers, and scores add up what that costs."""
    found: dict[nn.Module, type[Matrix]] = {}
    for block in (child for child in module.modules() if isinstance(child, Block)):
        for child in block.modules():
            if isinstance(child, Linear):
                found[child] = Int8Matrix
        qkv = block.attention.qkv
        found[qkv.base if isinstance(qkv, LoraLinear) else qkv] = Int8Gradient
    return found
