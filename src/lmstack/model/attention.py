"""Who attends to whom: the seam between a block and the keys and values it may look at.

A block hands its queries, keys and values to an `Attend`. Here are the two for whole sequences:
`DenseAttention` for a padded batch, `PackedAttention` for sequences end to end. An engine brings
its own that keeps keys and values between steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from lmstack.model.config import TransformerConfig
from lmstack.model.ops import Ops

__all__ = ["Attend", "DenseAttention", "PackedAttention"]


class Attend(Protocol):
    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """q (..., Hq, hd), k and v (..., Hkv, hd), rotated already, to (..., Hq, hd).

        Called once for each layer, in order. What differs by layer (scale, causal) is in
        ``config.layer(layer)``.
        """
        ...


class DenseAttention:
    """Attention within each row of a batch: q, k, v are (B, T, H, hd).

    ``mask``: (B, T), True where a token is real; padding is never looked at, on either side.
    None: all tokens are real.
    """

    def __init__(self, config: TransformerConfig, ops: Ops, mask: Tensor | None = None) -> None:
        self._layers = [config.layer(i) for i in range(config.num_layers)]
        self._ops = ops
        self._keys = None if mask is None or bool(mask.all()) else mask.bool()[:, None, None, :]
        self._causal: Tensor | None = None

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        spec = self._layers[layer]
        if self._keys is None:
            return self._ops.attention(q, k, v, None, spec.causal, spec.scale)
        mask = self._keys
        if spec.causal:
            if self._causal is None:
                T = q.shape[1]
                lower = torch.ones(T, T, dtype=torch.bool, device=q.device).tril()
                self._causal = lower & self._keys
            mask = self._causal
        return self._ops.attention(q, k, v, mask, False, spec.scale)


class PackedAttention:
    """Attention within each of many sequences that lie end to end: q, k, v are (N, H, hd).

    ``lengths``: tokens of each, in order, with sum N. Neighbours of equal length are computed
    as one batch, so nothing is padded and nothing masked: give them sorted.
    """

    def __init__(self, config: TransformerConfig, ops: Ops, lengths: Sequence[int]) -> None:
        self._layers = [config.layer(i) for i in range(config.num_layers)]
        self._ops = ops
        runs = [(T, len(list(run))) for T, run in itertools.groupby(lengths)]
        self._runs = [(B, T) for T, B in runs if T]
        self._rows = [B * T for B, T in self._runs]

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        spec = self._layers[layer]
        parts = []
        splits = (x.split_with_sizes(self._rows) for x in (q, k, v))
        for run, *qkv in zip(self._runs, *splits, strict=True):
            qs, ks, vs = (x.view(*run, *x.shape[1:]) for x in qkv)
            out = self._ops.attention(qs, ks, vs, None, spec.causal, spec.scale)
            parts.append(out.flatten(0, 1))
        return parts[0] if len(parts) == 1 else torch.cat(parts)
