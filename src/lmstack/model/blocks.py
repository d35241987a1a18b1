"""One layer of the Transformer: attention, cross-attention, MLP, and the norms around them.

Legend: D width, F inner width, E experts, Hq query heads, Hkv key-value heads, hd channels of a
head, S tokens of the encoder, "..." any leading shape.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from lmstack.model.biases import DisentangledBias
from lmstack.model.config import TransformerConfig
from lmstack.model.context import ForwardContext
from lmstack.model.layers import Convolution, Experts, LayerNorm, Linear, RMSNorm
from lmstack.model.ops import Ops

__all__ = [
    "Attention",
    "CrossAttention",
    "Mixture",
    "Mlp",
    "Neighbours",
    "TransformerBlock",
    "make_norm",
]

# Places of dropout in a block.
_ATTENTION, _CROSS, _MLP = range(3)


def make_norm(config: TransformerConfig, width: int | None = None) -> RMSNorm | LayerNorm:
    """The norm that the config asks for, over ``width`` channels (None: the hidden size)."""
    width = config.hidden_size if width is None else width
    if config.norm in ("rms", "rms1p"):
        return RMSNorm(width, config.norm_eps, from_one=config.norm == "rms1p")
    return LayerNorm(width, config.norm_eps, bias=config.norm == "ln")


class Attention(nn.Module):
    """Fused query-key-value projection, norms, rotation, attention, output projection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        D, hd = config.hidden_size, config.head_dim
        Hq, Hkv = config.num_heads, config.num_kv_heads
        self.qkv = Linear(D, config.qkv_heads * hd, bias=config.qkv_bias)
        self.out = Linear(Hq * hd, D, bias=config.out_bias)
        self.q_norm = self.k_norm = None
        if config.qk_norm != "none":
            full = config.qk_norm == "full"
            self.q_norm = make_norm(config, Hq * hd if full else hd)
            self.k_norm = make_norm(config, Hkv * hd if full else hd)
        self.pos_key = self.pos_query = None
        if config.bias == "deberta" and not config.bias_shared:
            if "c2p" in config.bias_parts:
                self.pos_key = Linear(D, Hq * hd, bias=config.qkv_bias)
            if "p2c" in config.bias_parts:
                self.pos_query = Linear(D, Hq * hd, bias=config.qkv_bias)
        self._config = config
        self._split, self._heads = (config.qkv_heads, hd), (Hq, Hkv)
        self._clip, self._full = config.qkv_clip, config.qk_norm == "full"

    def forward(self, x: Tensor, layer: int, context: ForwardContext) -> Tensor:
        ops, rotary, bias = context.ops, context.rotary[layer], context.bias
        if context.relative is not None:
            bias = self._disentangled(context.relative, context)
        qkv = ops.linear(x, self.qkv)
        if self._clip is not None:
            qkv = qkv.clamp(-self._clip, self._clip)
        qkv = qkv.view(*qkv.shape[:-1], *self._split)
        Hq, Hkv = self._heads
        qk, v = qkv.split_with_sizes((Hq + Hkv, Hkv), dim=-2)
        if self.q_norm is not None:
            qk = self._normed(qk, context)
        if rotary is not None:
            qk = ops.rotary(qk, *rotary)
        q, k = qk.split_with_sizes((Hq, Hkv), dim=-2)
        attended = context.attention(layer, q, k, v, bias)
        return ops.linear(attended.flatten(-2), self.out)

    def _normed(self, qk: Tensor, context: ForwardContext) -> Tensor:
        parts = []
        for x, norm in zip(
            qk.split_with_sizes(self._heads, dim=-2), (self.q_norm, self.k_norm), strict=True
        ):
            assert norm is not None
            wide = x.flatten(-2) if self._full else x
            parts.append(context.ops.norm(wide, norm).view(x.shape))
        return torch.cat(parts, dim=-2)

    def _disentangled(self, relative: Tensor, context: ForwardContext) -> DisentangledBias:
        """This layer's view of the relative embeddings (2 * span, D)."""
        config, ops = self._config, context.ops
        hd, Hq = config.head_dim, config.num_heads
        keys = queries = None
        if config.bias_shared:
            both = ops.linear(relative, self.qkv).view(len(relative), -1, hd)
            queries, keys, _ = both.split_with_sizes((Hq, Hq, Hq), dim=-2)
        if self.pos_key is not None:
            keys = ops.linear(relative, self.pos_key).view(-1, Hq, hd)
        if self.pos_query is not None:
            queries = ops.linear(relative, self.pos_query).view(-1, Hq, hd)
        return DisentangledBias(
            keys if "c2p" in config.bias_parts else None,
            queries if "p2c" in config.bias_parts else None,
            config.bias_span,
            config.bias_buckets,
            config.bias_max_distance,
            config.layers[0].scale,
        )


class CrossAttention(nn.Module):
    """Queries from the decoder over keys and values from the encoder's output."""

    def __init__(self, config: TransformerConfig, source_width: int) -> None:
        super().__init__()
        D, hd = config.hidden_size, config.head_dim
        self.q = Linear(D, config.num_heads * hd, bias=config.qkv_bias)
        self.kv = Linear(source_width, 2 * config.num_kv_heads * hd, bias=config.qkv_bias)
        self.out = Linear(config.num_heads * hd, D, bias=config.out_bias)
        self._head_dim = hd

    def forward(self, x: Tensor, layer: int, context: ForwardContext) -> Tensor:
        q = context.ops.linear(x, self.q)
        q = q.view(*q.shape[:-1], -1, self._head_dim)
        return context.ops.linear(context.attention.cross(layer, q).flatten(-2), self.out)

    def states(self, encoded: Tensor, context: ForwardContext) -> tuple[Tensor, Tensor]:
        """(..., D) of the encoder to keys and values, (..., Hkv, hd) each."""
        kv = context.ops.linear(encoded, self.kv)
        k, v = kv.view(*kv.shape[:-1], -1, self._head_dim).chunk(2, dim=-2)
        return k, v


class Neighbours(nn.Module):
    """norm(y + act(convolution(x))) of the first block's input x and output y (DeBERTa v2)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.conv = Convolution(config.hidden_size, config.conv_groups, config.conv_size)
        self.norm = make_norm(config)
        self._activation = config.conv_activation

    def forward(self, x: Tensor, y: Tensor, positions: Tensor, context: ForwardContext) -> Tensor:
        """x and y (..., T, D) at ``positions``, which tell neighbours from other sequences'."""
        if context.mask is not None:
            x = x * context.mask.to(x.dtype)[..., None]
        size = self.conv.weight.shape[-1]
        half = (size // 2,) * 2
        offsets = torch.arange(size, device=x.device) - size // 2
        near = pad(positions, half, value=-2 * size).unfold(-1, size, 1)
        is_near = near == positions[..., None] + offsets
        windows = pad(x, (0, 0, *half)).unfold(-2, size, 1) * is_near[..., None, :].to(x.dtype)
        inner = self.conv.weight.shape[1]
        grouped = windows.reshape(*x.shape[:-1], -1, inner * size)  # (..., T, groups, each)
        weight = self.conv.weight.view(grouped.shape[-2], -1, grouped.shape[-1])
        out = torch.einsum("...gi,goi->...go", grouped, weight).flatten(-2) + self.conv.bias
        out = context.ops.activation(out, self._activation)
        return context.ops.norm(y + out, self.norm)


class Mlp(nn.Module):
    """down(act(up(x))), or down(act(gate(x)) * up(x)) with gate and up fused in ``up``."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        D, F = config.hidden_size, config.intermediate_size
        self.gated = config.mlp == "glu"
        self.up = Linear(D, F * (2 if self.gated else 1), bias=config.mlp_bias)
        self.down = Linear(F, D, bias=config.mlp_bias)
        self._activation = config.activation

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        ops = context.ops
        act = ops.glu if self.gated else ops.activation
        return ops.linear(act(ops.linear(x, self.up), self._activation), self.down)


class Mixture(nn.Module):
    """A weighted sum of the best experts for each token: softmax over all, the top few, weights
    summing to one (Jiang et al., Mixtral of Experts, 2024)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        D, F, E = config.hidden_size, config.intermediate_size, config.num_experts
        self._gated = config.mlp == "glu"
        self.router = Linear(D, E, bias=False)
        self.up = Experts(E, D, F * (2 if self._gated else 1))
        self.down = Experts(E, F, D)
        self._count, self._activation = config.experts_per_token, config.activation

    def forward(self, x: Tensor, context: ForwardContext) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        likely = context.ops.linear(flat, self.router).float().softmax(-1)
        best, which = likely.topk(self._count, dim=-1)
        best = best / best.sum(-1, keepdim=True)
        scores = torch.zeros_like(likely).scatter(-1, which, best)
        out = context.ops.mixture(flat, scores, self.up, self.down, self._activation, self._gated)
        return out.view(x.shape)


class TransformerBlock(nn.Module):
    """Each sublayer f with its residual. pre: x + f(norm(x)); post: norm(x + f(x)); post_only:
    x + norm(f(x)); pre_residual: norm(x) + f(norm(x)); sandwich: x + post_norm(f(norm(x)));
    parallel: x + f(norm(x)) + g(norm(x))."""

    def __init__(self, config: TransformerConfig, index: int) -> None:
        super().__init__()
        sandwich = config.norm_place == "sandwich"
        named = config.first_norm or index > 0
        self.attention_norm = make_norm(config) if named else None
        self.attention = Attention(config)
        self.attention_post_norm = make_norm(config) if sandwich else None
        self.cross_norm = self.cross = None
        if config.encoder is not None:
            self.cross_norm = make_norm(config)
            self.cross = CrossAttention(config, config.encoder.hidden_size)
        self.mlp_norm = make_norm(config)
        self.mlp = Mixture(config) if config.num_experts else Mlp(config)
        self.mlp_post_norm = make_norm(config) if sandwich else None
        self._place, self._parallel = config.norm_place, config.parallel
        self._scale = config.residual_scale

    def forward(self, x: Tensor, layer: int, context: ForwardContext) -> Tensor:
        ops = context.ops

        def given(y: Tensor, place: int) -> Tensor:
            """What a sublayer adds."""
            y = context.dropped(y, layer, place)
            return y if self._scale == 1.0 else y * self._scale

        def attention(y: Tensor) -> Tensor:
            return given(self.attention(y, layer, context), _ATTENTION)

        def across(y: Tensor) -> Tensor:
            assert self.cross is not None
            return given(self.cross(y, layer, context), _CROSS)

        def mlp(y: Tensor) -> Tensor:
            return given(self.mlp(y, context), _MLP)

        if self._parallel:
            assert self.attention_norm is not None
            added = mlp(ops.norm(x, self.mlp_norm))
            return added + attention(ops.norm(x, self.attention_norm)) + x
        x = self._sublayer(x, attention, self.attention_norm, self.attention_post_norm, ops)
        if self.cross is not None:
            x = self._sublayer(x, across, self.cross_norm, None, ops)
        return self._sublayer(x, mlp, self.mlp_norm, self.mlp_post_norm, ops)

    def _sublayer(
        self,
        x: Tensor,
        f: Callable[[Tensor], Tensor],
        norm: RMSNorm | LayerNorm | None,
        post_norm: RMSNorm | LayerNorm | None,
        ops: Ops,
    ) -> Tensor:
        if norm is None:
            return _bounded(x + f(x))
        if self._place == "post":
            return ops.norm(_bounded(x + f(x)), norm)
        if self._place == "post_only":
            return _bounded(x + ops.norm(f(x), norm))
        normed = ops.norm(x, norm)
        y = f(normed)
        if self._place == "pre_residual":
            return _bounded(normed + y)
        return _bounded(x + (y if post_norm is None else ops.norm(y, post_norm)))


def _bounded(x: Tensor) -> Tensor:
    """Sums that overflow float16 pulled back, as T5 needs: infinity would become NaN."""
    if x.dtype != torch.float16:
        return x
    most = torch.finfo(torch.float16).max - 1000
    return x.clamp(-most, most)
