"""Muon: momentum whose matrices are made orthogonal before they are subtracted.

    B = mu B + (1 - mu) g        U = (1 - mu) g + mu B        W -= lr * s * orthogonal(U)

Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; equal to
`torch.optim.Muon` on a matrix by itself. Where several projections lie fused in one weight (query,
key and value; gate and up; one matrix an expert), each is orthogonalized by itself, as Jordan
advises: the update of one would otherwise depend on how it happens to be stored. Sharded weights
are gathered for it, because the orthogonal factor of a shard is not a shard of the factor.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lmstack.model.blocks import Attention, CrossAttention, Mixture, Mlp
from lmstack.model.transformer import Transformer
from lmstack.train.parallel import ALONE, Parallel

__all__ = ["Muon", "fused_rows", "orthogonalized"]

# Of the quintic iteration: chosen so that small singular values grow fastest (Jordan et al.).
_A, _B, _C = 3.4445, -4.7750, 2.0315
_ITERATIONS, _LEAST = 5, 1e-7


class Muon(torch.optim.Optimizer):
    """``params``: matrices, (out, in) or one an expert, (experts, out, in). ``rows``: of those
    that hold several projections, how many rows each has. ``dtype``: of the products that make
    them orthogonal; bfloat16 is enough, and float32 faster where no processor has that."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        rows: Mapping[nn.Parameter, Sequence[int]] | None = None,
        parallel: Parallel = ALONE,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self._rows, self._parallel, self._dtype = dict(rows or {}), parallel, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step with the gradients of now."""
        assert closure is None
        for group in self.param_groups:
            lr, momentum = float(group["lr"]), float(group["momentum"])
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(weight.grad)
                state["momentum_buffer"].lerp_(weight.grad, 1 - momentum)
                update = weight.grad.lerp(state["momentum_buffer"], momentum)
                weight.mul_(1 - lr * group["weight_decay"])
                weight.add_(self._direction(update, self._rows.get(weight, ())), alpha=-lr)

    def _direction(self, update: Tensor, rows: Sequence[int]) -> Tensor:
        """``update`` made orthogonal, with each projection scaled by sqrt(out / in) where that is
        above 1."""
        whole = self._parallel.whole(update)
        parts = []
        for part in whole.split_with_sizes(list(rows or (whole.shape[-2],)), dim=-2):
            scale = math.sqrt(max(1.0, part.shape[-2] / part.shape[-1]))
            parts.append(orthogonalized(part, self._dtype).to(whole.dtype) * scale)
        found = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)
        # Each process has computed the same, and takes its own rows.
        return self._parallel.dealt(found, update)


def orthogonalized(matrix: Tensor, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """(out, in), or each of (experts, out, in), to about U V^T of its singular value decomposition
    U S V^T, computed in ``dtype``: five Newton-Schulz iterations leave singular values of about .7
    to 1.2."""
    if matrix.dim() > 2:
        return torch.stack([orthogonalized(each, dtype) for each in matrix])
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.to(dtype)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=_LEAST)
    for _ in range(_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.T if is_tall else x


def fused_rows(module: nn.Module) -> dict[nn.Parameter, tuple[int, ...]]:
    """The weights in ``module`` that hold several projections, and the rows of each."""
    found: dict[nn.Parameter, tuple[int, ...]] = {}
    for transformer in module.modules():
        if not isinstance(transformer, Transformer):
            continue
        config = transformer.config
        query, key = (n * config.head_dim for n in (config.num_heads, config.num_kv_heads))
        for part in transformer.blocks.modules():
            held: nn.Module
            rows: tuple[int, ...]
            if isinstance(part, Attention):
                held, rows = part.qkv, (query, key, key)
            elif isinstance(part, CrossAttention):
                held, rows = part.kv, (key, key)
            elif isinstance(part, Mlp | Mixture) and config.mlp == "glu":
                held, rows = part.up, (config.intermediate_size,) * 2
            else:
                continue
            weight = getattr(held, "weight", None)
            if isinstance(weight, nn.Parameter):
                found[weight] = rows
    return found
