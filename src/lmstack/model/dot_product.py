"""Scaled dot-product attention, with every variation that a family needs.

softmax(cap(q k^T * scale) + bias + mask) v (Vaswani et al., 2017), where a query that attends to
nothing gives zeros. By default the scores exist only for a tile of queries at a time, so memory
grows with the length and not with its square, in the backward pass as well; asked for the
weights, they are computed at once (eager) and returned. Where torch's fused kernel can do the
same, it does. Not covered: dropout.

Legend: "..." any leading shape, Hq query heads, Hkv key-value heads (a divisor of Hq), T
queries, S keys, hd channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack, overload

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from lmstack.core import InputError
from lmstack.model.biases import ScoreBias

__all__ = ["TILE", "AttentionOptions", "scaled_dot_product_attention"]

TILE = 256


class AttentionOptions(TypedDict, total=False):
    """See `scaled_dot_product_attention`."""

    mask: Tensor | None
    causal: bool
    window: int | None
    scale: float | None
    softcap: float | None
    bias: ScoreBias | None
    tile: int


@overload
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, **options: Unpack[AttentionOptions]
) -> Tensor: ...


@overload
def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_weights: Literal[True],
    **options: Unpack[AttentionOptions],
) -> tuple[Tensor, Tensor]: ...


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    mask: Tensor | None = None,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    bias: ScoreBias | None = None,
    return_weights: bool = False,
    tile: int = TILE,
) -> Tensor | tuple[Tensor, Tensor]:
    """query (..., Hq, T, hd), key (..., Hkv, S, hd), value (..., Hkv, S, dv) to (..., Hq, T, dv).

    ``mask``: broadcasts to (..., Hq, T, S); boolean, True where a query attends, or numbers that
    are added to the scores. ``causal``: no key after the query; the last query and the last key
    stand at the same place, so that T < S continues a sequence. ``window``: only keys less than
    so many places away. ``scale``: None for hd^-0.5. ``softcap``: scores become
    cap * tanh(scores / cap). ``return_weights``: also (..., Hq, T, S). `InputError` for shapes
    that do not fit.
    """
    _check(query, key, value, mask, window, softcap, tile)
    if not key.shape[-2]:
        out = query.new_zeros(*query.shape[:-1], value.shape[-1])
        return (out, query.new_zeros(*query.shape[:-1], 0)) if return_weights else out
    if mask is not None and mask.dtype not in (torch.bool, torch.float32):
        mask = mask.to(query.dtype)
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    groups = query.shape[-3] // key.shape[-3]
    spread = (key, value) if groups == 1 else _spread(key, value, groups)
    plain = softcap is None and bias is None and window is None
    if plain and not return_weights and (mask is None or not causal):
        T, S = query.shape[-2], key.shape[-2]
        if not causal or T == S or T == 1:
            return F.scaled_dot_product_attention(
                query, *spread, mask, is_causal=causal and T > 1, scale=scale
            )
    call = _Tiles(query, key, *spread, mask, causal, window, scale, softcap, bias)
    T = query.shape[-2]
    if return_weights:
        return call.eager(0, T)
    if tile >= T:
        return call.fused(0, T)
    parts = []
    # A bias may hold what is trained even where queries and keys are not.
    trained = any(x is not None and x.requires_grad for x in (query, key, value, mask))
    recomputed = torch.is_grad_enabled() and (trained or bias is not None)
    for start in range(0, T, tile):
        end = min(start + tile, T)
        if recomputed:
            # The scores of a tile are computed again in the backward pass instead of kept.
            parts.append(checkpoint(call.fused, start, end, use_reentrant=False))
        else:
            parts.append(call.fused(start, end))
    return torch.cat(parts, dim=-2)


def _spread(key: Tensor, value: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """A key-value head for each query head."""
    return key.repeat_interleave(groups, dim=-3), value.repeat_interleave(groups, dim=-3)


@dataclass(frozen=True)
class _Tiles:
    """One call's attention, computed for any range of its queries. ``heads``: the keys before
    each query head got one of its own."""

    query: Tensor
    heads: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None
    causal: bool
    window: int | None
    scale: float
    softcap: float | None
    bias: ScoreBias | None

    @property
    def num_keys(self) -> int:
        return self.key.shape[-2]

    @property
    def first(self) -> int:
        """Where the first query stands among the keys."""
        return self.num_keys - self.query.shape[-2]

    def fused(self, start: int, end: int) -> Tensor:
        """Queries ``start`` to ``end`` to (..., Hq, end - start, dv)."""
        low, high = self._reach(start, end)
        bias = self._bias_of(start, end, low, high)
        if self.softcap is not None or (bias is not None and bias.requires_grad):
            return self._explicit(start, end, low, high, bias)[0]
        mask = self._mask_of(start, end, low, high)
        if bias is not None:
            mask = bias if mask is None else _added(bias, mask)
        if mask is not None and mask.dim() == 3 and self.query.dim() > 3:
            mask = mask[None]  # torch's kernel takes two or four dimensions
        query = self.query[..., start:end, :]
        key, value = (x[..., low:high, :] for x in (self.key, self.value))
        return F.scaled_dot_product_attention(query, key, value, mask, scale=self.scale)

    def eager(self, start: int, end: int) -> tuple[Tensor, Tensor]:
        """The same, and the weights of all keys."""
        bias = self._bias_of(start, end, 0, self.num_keys)
        return self._explicit(start, end, 0, self.num_keys, bias)

    def _explicit(
        self, start: int, end: int, low: int, high: int, bias: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        key, value = (x[..., low:high, :] for x in (self.key, self.value))
        scores = self.query[..., start:end, :] @ key.transpose(-1, -2) * self.scale
        if self.softcap is not None:
            scores = torch.tanh(scores / self.softcap) * self.softcap
        if bias is not None:
            scores = scores + bias
        mask = self._mask_of(start, end, low, high)
        if mask is not None:
            scores = _added(scores, mask)
        weights = _softmax(scores).to(value.dtype)
        return weights @ value, weights

    def _reach(self, start: int, end: int) -> tuple[int, int]:
        """The range of keys that any of the queries attends to."""
        low, high = 0, self.num_keys
        if self.causal:
            high = self.first + end
        if self.window is not None:
            low = max(low, self.first + start - self.window + 1)
            high = min(high, self.first + end + self.window - 1)
        # At least one, masked if need be, because kernels cannot sum over nothing.
        low = min(low, self.num_keys - 1)
        return low, max(high, low + 1)

    def _positions(self, start: int, end: int, low: int, high: int) -> tuple[Tensor, Tensor]:
        device = self.query.device
        return (
            torch.arange(self.first + start, self.first + end, device=device),
            torch.arange(low, high, device=device),
        )

    def _bias_of(self, start: int, end: int, low: int, high: int) -> Tensor | None:
        if self.bias is None:
            return None
        query = self.query[..., start:end, :].transpose(-2, -3)
        key = self.heads[..., low:high, :].transpose(-2, -3)
        return self.bias(query, key, *self._positions(start, end, low, high))

    def _mask_of(self, start: int, end: int, low: int, high: int) -> Tensor | None:
        visible = None
        if self.causal or self.window is not None:
            queries, keys = self._positions(start, end, low, high)
            behind = queries[:, None] - keys
            if self.window is None:
                visible = behind >= 0
            else:
                visible = (behind if self.causal else behind.abs()) < self.window
                visible = visible & (behind >= 0) if self.causal else visible
        if self.mask is None:
            return visible
        mask = _cut(_cut(self.mask, -2, start, end), -1, low, high)
        if visible is None:
            return mask
        return mask & visible if mask.dtype == torch.bool else _added(mask, visible)


def _cut(mask: Tensor, dim: int, start: int, end: int) -> Tensor:
    """Part of a mask, which may be broadcast along ``dim``."""
    if mask.dim() < -dim or mask.shape[dim] == 1:
        return mask
    return mask.narrow(dim, start, end - start)


def _added(scores: Tensor, mask: Tensor) -> Tensor:
    if mask.dtype != torch.bool:
        return scores + mask
    return scores.masked_fill(~mask, -torch.inf)


def _softmax(scores: Tensor) -> Tensor:
    """Softmax in float32 or better; zeros where every score is -inf."""
    wide = scores if scores.dtype == torch.float64 else scores.float()
    top = wide.detach().amax(-1, keepdim=True).clamp(min=torch.finfo(wide.dtype).min)
    raised = (wide - top).exp()
    total = raised.sum(-1, keepdim=True)
    return (raised / total.masked_fill(total == 0, 1)).to(scores.dtype)


def _check(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    window: int | None,
    softcap: float | None,
    tile: int,
) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if min(query.dim(), key.dim(), value.dim()) < 3:
        raise InputError(f"attention over {shapes}", hint="shapes are (..., heads, tokens, hd)")
    if key.shape[:-1] != value.shape[:-1] or query.shape[-1] != key.shape[-1]:
        raise InputError(
            f"attention over {shapes}",
            hint="key and value share heads and tokens, query and key the last dimension",
        )
    if key.shape[-3] == 0 or query.shape[-3] % key.shape[-3]:
        raise InputError(
            f"attention over {shapes}: {query.shape[-3]} query heads for {key.shape[-3]}",
            hint="each key-value head serves a whole number of query heads",
        )
    if query.shape[:-3] != key.shape[:-3]:
        raise InputError(f"attention over {shapes}", hint="all share the batch dimensions")
    if mask is not None:
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise InputError(
                f"the mask is {mask.dtype}",
                hint="mask.bool(), True where a query attends, or numbers to add to the scores",
                param="mask",
            )
        whole = (*query.shape[:-1], key.shape[-2])
        ends = zip(reversed(mask.shape), reversed(whole), strict=False)
        if mask.dim() > len(whole) or any(a not in (1, b) for a, b in ends):
            raise InputError(
                f"the mask {tuple(mask.shape)} does not broadcast to {whole}", param="mask"
            )
    if window is not None and window < 1:
        raise InputError(f"window is {window}", hint="at least 1", param="window")
    if softcap is not None and not softcap > 0:
        raise InputError(f"softcap is {softcap}", hint="above 0, or None", param="softcap")
    if tile < 1:
        raise InputError(f"tile is {tile}", hint="at least 1", param="tile")
