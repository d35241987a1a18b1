"""In which precision the products of a training pass are computed, and by which operations.

``float32`` is the reference's, computed by native ops (`native`) where a processor has them and by
the reference ops elsewhere. ``bfloat16`` computes matrix products, forwards and backwards, in
bfloat16, as autocast does: weights that are trained, their optimizer, the residual stream and the
statistics of norms stay in float32. Frozen weights are rounded once and kept. ``int8`` computes
most products of frozen matrices in 8 bits (`frozen.Int8Matrix`), and the others in whichever of the
two the machine multiplies fast; by native ops what lies between products is in float32.

What changes for speed and not for the numbers: a gated activation and a norm keep only their inputs
for the backward pass; the terms of an adapter are added to the rows of the base's output in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.model import REFERENCE_OPS, Ops, ReferenceOps
from lmstack.model.biases import ScoreBias
from lmstack.model.blocks import TransformerBlock
from lmstack.model.config import Activation, LayerSpec
from lmstack.model.layers import Embedding, LayerNorm, Linear, RMSNorm
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.positions import RopeSpec
from lmstack.train import native
from lmstack.train.frozen import (
    FrozenMatrices,
    FrozenMatrix,
    Int8Gradient,
    Int8Matrix,
    is_frozen,
)
from lmstack.train.precision import dtype_of, products_of
from lmstack.train.short_attention import (
    LONGEST,
    WASTE,
    Group,
    continued_attention,
    groups_of,
    short_attention,
)

__all__ = ["NativeOps", "TrainingOps", "ops_for"]


class TrainingOps(ReferenceOps):
    """`ReferenceOps` with products of ``dtype``. RMSNorm and linear layers give it, whatever they
    are given. ``kinds``: of frozen layers, how they are held if not in ``dtype``. It keeps copies
    of frozen weights, so have one for each run."""

    def __init__(
        self,
        dtype: torch.dtype,
        kinds: Mapping[nn.Module, type[FrozenMatrix]] | None = None,
        frozen: torch.dtype | None = None,
    ) -> None:
        self._dtype = dtype
        self._frozen = FrozenMatrices(frozen or dtype, kinds or {})

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor:
        if isinstance(norm, LayerNorm):
            return super().norm(x, norm)
        gain = norm.weight.float() + 1 if norm.from_one else norm.weight
        found: Tensor = _RootMeanSquare.apply(  # type: ignore[no-untyped-call]
            x, gain, norm.eps, self._dtype
        )
        return found

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        x = x.to(self._dtype)
        terms = weight.ordered() if isinstance(weight, LoraLinear) else []
        base = weight.base if isinstance(weight, LoraLinear) else weight
        if any(term.magnitude is not None for term in terms):
            return super().linear(x, weight).to(self._dtype)
        if not is_frozen(base):
            bias = None if base.bias is None else base.bias.to(self._dtype)
            return F.linear(x, base.weight.to(self._dtype), bias)
        return self._frozen.of(base).product(x, base.bias, terms)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if x.dtype != self._dtype or cos.shape[-1] < x.shape[-1]:
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
        del dtype  # of the residual stream; queries and keys are products
        return super().rotary_tables(rope, positions, head_dim, self._dtype, length)

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
            q, k, v = (x.to(self._dtype) for x in (q, k, v))
            return self._continued(q, k, v, scale)
        # Torch's fused kernel is slower backwards in bfloat16 than in float32.
        return super().attention(q.float(), k.float(), v.float(), spec, mask, bias).to(self._dtype)

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
        q, k, v = (x.to(self._dtype) for x in (q, k, v))
        groups = self._groups(lengths, q, k, v)
        sizes = [group.tokens for group in groups]
        # Of one group, not a view of all: its gradient would be a copy.
        splits = (x.split_with_sizes(sizes) if len(groups) > 1 else [x] for x in (q, k, v))
        for group, qs, ks, vs in zip(groups, *splits, strict=True):
            sees_all = spec.window is None or spec.window >= group.longest
            if plain and sees_all and group.longest <= LONGEST:
                part = self._short(qs, ks, vs, group.lengths, spec.causal, scale)
            else:
                part = super().varlen_attention(qs, ks, vs, group.lengths, spec, bias)
            parts.append(part)
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def _groups(self, lengths: Sequence[int], *heads: Tensor) -> list[Group]:
        """Sequences of which `_short` is called for several at once."""
        del heads
        return groups_of(lengths)

    def _continued(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        return continued_attention(q, k, v, scale=scale)

    def _short(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], causal: bool, scale: float
    ) -> Tensor:
        return short_attention(q, k, v, lengths, causal=causal, scale=scale)

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        if kind != "silu":
            return super().glu(gate_up, kind)
        found: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
        return found


class NativeOps(TrainingOps):
    """`TrainingOps` in float32 by native ops (`lmstack.train.native`) wherever one fits.
    ``frozen``: what frozen matrices that are not in 8 bits are multiplied in."""

    def __init__(
        self,
        kinds: Mapping[nn.Module, type[FrozenMatrix]] | None = None,
        frozen: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(torch.float32, kinds, frozen)

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor:
        if isinstance(norm, LayerNorm) or norm.weight.requires_grad or not native.takes_rows(x):
            return super().norm(x, norm)
        gain = norm.weight.float() + 1 if norm.from_one else norm.weight.float()
        return native.normed(x, gain, norm.eps)

    def rotary(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if not native.takes_rotation(x, cos, sin):
            return super().rotary(x, cos, sin)
        return native.rotated(x, cos, sin)

    def glu(self, gate_up: Tensor, kind: Activation) -> Tensor:
        if kind != "silu" or not native.takes_rows(gate_up):
            return super().glu(gate_up, kind)
        return native.gated(gate_up)

    def _groups(self, lengths: Sequence[int], *heads: Tensor) -> list[Group]:
        # The native op takes them one by one, so they need not be alike.
        return groups_of(lengths, math.inf if native.takes_heads(*heads) else WASTE)

    def _continued(self, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        if not native.takes_heads(q, k, v):
            return super()._continued(q, k, v, scale)
        (B, T), S = q.shape[:2], k.shape[1]
        queries, keys, values = (x.flatten(0, 1) for x in (q, k, v))
        sizes = [T] * B, [S] * B
        out = native.attended(queries, keys, values, *sizes, causal=True, scale=scale)
        return out.view(q.shape)

    def _short(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], causal: bool, scale: float
    ) -> Tensor:
        if not native.takes_heads(q, k, v):
            return super()._short(q, k, v, lengths, causal, scale)
        return native.attended(q, k, v, lengths, lengths, causal=causal, scale=scale)


class _RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + eps) * gain to ``dtype``, statistics in float32. Keeps x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        wide = x.float()
        scale = _inverse_rms(wide, eps)
        ctx.save_for_backward(x, gain, scale)
        return (wide * scale).to(dtype).mul_(gain.to(dtype))

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
        return into.to(x.dtype), of_gain, None, None


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


def ops_for(precision: str, module: nn.Module, device: str = "cpu") -> Ops:
    """The ops of a recipe's ``precision`` for a run of ``module`` on ``device``: see
    `Parallel.device`."""
    precision, dtype = products_of(precision, device), dtype_of(precision, device)
    is_on_cpu = all(weight.device.type == "cpu" for weight in module.parameters())
    kinds = _int8_kinds(module) if precision == "int8" else {}
    if (dtype == torch.float32 or kinds) and is_on_cpu and device == "cpu" and native.available():
        return NativeOps(kinds, dtype)
    return REFERENCE_OPS if precision == "float32" else TrainingOps(dtype, kinds)


def _int8_kinds(module: nn.Module) -> dict[nn.Module, type[FrozenMatrix]]:
    """Matrices of blocks are multiplied in 8 bits, but for queries and keys forwards: their inputs
    have outliers, and scores add up what that costs."""
    found: dict[nn.Module, type[FrozenMatrix]] = {}
    for block in (child for child in module.modules() if isinstance(child, TransformerBlock)):
        terms = {
            child.base: child.ordered()
            for child in block.modules()
            if isinstance(child, LoraLinear)
        }
        qkv = block.attention.qkv
        by_floats = qkv.base if isinstance(qkv, LoraLinear) else qkv
        for child in block.modules():
            if not isinstance(child, Linear):
                continue
            is_native = native.takes(child.weight, terms.get(child, []))
            if child is by_floats:
                found[child] = native.PackedInt8Gradient if is_native else Int8Gradient
            else:
                found[child] = native.PackedInt8 if is_native else Int8Matrix
    return found
