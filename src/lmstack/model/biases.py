"""What positions add to attention scores: ALiBi, T5's buckets, DeBERTa's disentangled terms.

Each is a `ScoreBias`: called with the queries and keys of a tile and their positions, so that
no more than a tile of it need exist at a time.

Legend: B batch, T queries, S keys, H query heads, Hkv key heads, hd channels of a head.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "AlibiBias",
    "BucketBias",
    "DisentangledBias",
    "ScoreBias",
    "alibi_slopes",
    "bucket",
    "log_bucket",
]


class ScoreBias(Protocol):
    def __call__(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        """Added to the scaled scores; broadcasts to (B, H, T, S).

        q (B, T, H, hd), k (B, S, Hkv, hd); positions (T,) and (S,), or (B, T) and (B, S).
        Only differences of positions matter."""
        ...


def _distances(q_positions: Tensor, k_positions: Tensor) -> Tensor:
    """How far each key lies after its query: (..., T, S)."""
    return k_positions[..., None, :] - q_positions[..., :, None]


def alibi_slopes(num_heads: int, alibi_max: float = 8.0) -> Tensor:
    """(H,) float32. Geometric from 2^(-max/n) for n a power of two; otherwise those of the
    power below, then every other one of the power above (Press et al., 2022)."""
    power = 2 ** math.floor(math.log2(num_heads))
    slopes = [2.0 ** (-alibi_max * (i + 1) / power) for i in range(power)]
    more = [2.0 ** (-alibi_max * (i + 1) / (2 * power)) for i in range(2 * power)]
    # On the CPU even where a module is built under another default, such as meta.
    return torch.tensor((slopes + more[0::2])[:num_heads], device="cpu")


@dataclass(frozen=True)
class AlibiBias:
    """``slopes`` (H,): minus a slope for each token between key and query."""

    slopes: Tensor

    def __call__(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        del k  # only positions matter
        distances = _distances(q_positions, k_positions)[..., None, :, :]
        return (self.slopes.to(q.device)[:, None, None] * distances).to(q.dtype)


def bucket(distances: Tensor, count: int, max_distance: int, *, both_sides: bool) -> Tensor:
    """T5's bucket of each distance: exact when near, logarithmic up to ``max_distance``.

    ``both_sides``: half the buckets for keys after the query; else those share bucket 0.
    Source: Raffel et al., 2020; the numerics of ``T5Attention._relative_position_bucket``.
    """
    start = torch.zeros_like(distances)
    if both_sides:
        count //= 2
        start = (distances > 0).long() * count
        distances = distances.abs()
    else:
        distances = (-distances).clamp(min=0)
    exact = count // 2
    scale = math.log(max_distance / exact)
    far = exact + (torch.log(distances.float() / exact) / scale * (count - exact)).long()
    return start + torch.where(distances < exact, distances, far.clamp(max=count - 1))


@dataclass(frozen=True)
class BucketBias:
    """``table`` (buckets, H): a learned number for each bucket of distance and head."""

    table: Tensor
    max_distance: int
    both_sides: bool

    def __call__(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        del q, k  # only positions matter
        distances = _distances(q_positions, k_positions)
        buckets = bucket(distances, len(self.table), self.max_distance, both_sides=self.both_sides)
        return F.embedding(buckets, self.table).movedim(-1, -3)


def log_bucket(distances: Tensor, count: int, max_distance: int) -> Tensor:
    """DeBERTa-v2's signed bucket: exact up to half of ``count``, then logarithmic."""
    mid = count // 2
    far = distances.abs().clamp(min=mid - 1)
    top = torch.log(torch.tensor((max_distance - 1) / mid))
    logarithmic = torch.ceil(torch.log(far / mid) / top * (mid - 1)) + mid
    signed = torch.where(far <= mid, distances.float(), logarithmic * distances.sign())
    return signed.long()


@dataclass(frozen=True)
class DisentangledBias:
    """Content to position and position to content (He et al., DeBERTa, 2021).

    ``keys``, ``queries``: (2 * span, H, hd), projections of the relative embeddings, None where
    the model leaves that part out. ``buckets``: 0 for distances as they are."""

    keys: Tensor | None
    queries: Tensor | None
    span: int
    buckets: int
    max_distance: int
    scale: float

    def __call__(self, q: Tensor, k: Tensor, q_positions: Tensor, k_positions: Tensor) -> Tensor:
        distances = -_distances(q_positions, k_positions)
        if self.buckets:
            distances = log_bucket(distances, self.buckets, self.max_distance)
        rows = (distances + self.span).clamp(0, 2 * self.span - 1)
        while rows.dim() < 4:
            rows = rows.unsqueeze(0 if rows.dim() < 3 else 1)
        B, T, H, _ = q.shape
        index = rows.expand(B, H, T, k.shape[1])
        bias = q.new_zeros(())
        if self.keys is not None:
            scores = torch.einsum("bthd,rhd->bhtr", q, self.keys.to(q.dtype))
            bias = bias + scores.gather(-1, index)
        if self.queries is not None:
            scores = torch.einsum("bshd,rhd->bhsr", k, self.queries.to(k.dtype))
            bias = bias + scores.gather(-1, index.transpose(-1, -2)).transpose(-1, -2)
        return bias * self.scale
