"""Attention of a few queries a row over many keys, as decoding needs it.

The query heads that share a key-value head become rows of one query matrix, so keys and values
are never repeated.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.model.config import LayerSpec

__all__ = ["grouped_attention"]


def grouped_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, spec: LayerSpec
) -> Tensor:
    """One query a row: q (B, Hq, hd) over k and v (B, S, Hkv, hd), to (B, Hq, hd).

    ``mask``: added to the scores, broadcasts to (B, Hkv, Hq / Hkv, S)."""
    q = q.view(len(q), k.shape[2], -1, q.shape[2])
    k, v = k.transpose(1, 2), v.transpose(1, 2)
    if spec.softcap is None:
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=spec.scale)
        return out.flatten(1, 2)
    scores = q @ k.transpose(-1, -2) * spec.scale
    scores = torch.tanh(scores / spec.softcap) * spec.softcap
    if mask is not None:
        scores = scores + mask
    return (scores.softmax(-1, dtype=torch.float).to(q.dtype) @ v).flatten(1, 2)
