"""Attention of many short sequences at once, forwards and backwards, in bfloat16.

Torch's fused kernel computes it sequence by sequence in blocks of queries, which pays from some
hundred tokens on; conversations and sentences are shorter. Here neighbours of like length are one
batch of matrix products, their probabilities kept for the backward pass.

Legend: N tokens, B sequences of a group, T tokens of the longest, Hkv key-value heads, G query
heads of each, hd channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["LONGEST", "WASTE", "Group", "continued_attention", "groups_of", "short_attention"]

# From here on the fused kernel is faster, and the probabilities are many.
LONGEST = 320
WASTE = 1.2


@dataclass(frozen=True)
class Group:
    """``lengths`` of neighbours, which begin at token ``start``."""

    start: int
    lengths: tuple[int, ...]

    @property
    def longest(self) -> int:
        return max(self.lengths)

    @property
    def tokens(self) -> int:
        return sum(self.lengths)


def groups_of(lengths: Sequence[int], waste: float = WASTE) -> list[Group]:
    """Neighbours of like length together: the longest of a group is at most ``waste`` times the
    shortest. A sequence of more than `LONGEST` is alone."""
    found: list[Group] = []
    start, held = 0, list[int]()
    for length in lengths:
        low, high = min([length, *held]), max([length, *held])
        if held and (high > LONGEST or high > waste * low):
            found.append(Group(start, tuple(held)))
            start, held = start + sum(held), []
        held.append(length)
    return [*found, Group(start, tuple(held))] if held else found


def short_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], *, causal: bool, scale: float
) -> Tensor:
    """q (n, Hkv * G, hd), k and v (n, Hkv, hd) of sequences of ``lengths``, n tokens in all."""
    out: Tensor = _ShortAttention.apply(  # type: ignore[no-untyped-call]
        q, k, v, tuple(lengths), causal, scale
    )
    return out


def continued_attention(q: Tensor, k: Tensor, v: Tensor, *, scale: float) -> Tensor:
    """q (B, T, Hkv * G, hd), k and v (B, S, Hkv, hd) with S >= T to (B, T, Hkv * G, hd): sequences
    of T tokens that go on after S - T others, causal."""
    (B, T, Hq, hd), (S, Hkv) = q.shape, k.shape[1:3]
    keys, values = (x.transpose(1, 2).reshape(B * Hkv, S, hd) for x in (k, v))
    queries = (q * scale).view(B, T, Hkv, -1, hd).permute(0, 2, 3, 1, 4)
    scores = torch.bmm(queries.reshape(B * Hkv, -1, hd), keys.transpose(1, 2))
    after = scores.new_full((T, S), float("-inf")).triu_(S - T + 1)
    weights = (scores.view(-1, T, S) + after).softmax(-1)
    out = torch.bmm(weights.view_as(scores), values).view(B, Hkv, -1, T, hd)
    return out.permute(0, 3, 1, 2, 4).reshape(B, T, Hq, hd)


class _ShortAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        lengths: tuple[int, ...],
        causal: bool,
        scale: float,
    ) -> Tensor:
        place = _Place(lengths, k.shape[1])
        queries, keys, values = place.padded(q) * scale, place.padded(k), place.padded(v)
        scores = torch.bmm(queries, keys.transpose(1, 2))
        shaped = scores.view(len(lengths), -1, place.longest, place.longest)
        if (hidden := _hidden(lengths, causal, scores)) is not None:
            shaped.add_(hidden)
        weights = shaped.softmax(-1).view_as(scores)
        ctx.save_for_backward(q, k, v, weights)
        ctx.place, ctx.scale = place, scale
        return place.real(torch.bmm(weights, values))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, weights = ctx.saved_tensors
        place: _Place = ctx.place
        grad = place.padded(grads[0], fill=True)
        queries, keys, values = place.padded(q) * ctx.scale, place.padded(k), place.padded(v)
        of_values = torch.bmm(weights.transpose(1, 2), grad)
        of_weights = torch.bmm(grad, values.transpose(1, 2))
        square = (-1, place.longest)
        of_scores = torch._softmax_backward_data(
            of_weights.view(square), weights.view(square), -1, weights.dtype
        ).view_as(weights)
        of_queries = torch.bmm(of_scores, keys).mul_(ctx.scale)
        of_keys = torch.bmm(of_scores.transpose(1, 2), queries)
        found = (place.real(x) for x in (of_queries, of_keys, of_values))
        return *found, None, None, None


class _Place:
    """Where tokens of sequences end to end lie in a padded batch."""

    def __init__(self, lengths: tuple[int, ...], heads: int) -> None:
        self.batch, self.longest = len(lengths), max(lengths)
        self._heads = heads
        self._rows = self._back = None
        if min(lengths) < self.longest:
            steps, sizes = torch.arange(self.longest), torch.tensor(lengths)
            starts = sizes.cumsum(0) - sizes
            self._real = steps < sizes[:, None]
            self._rows = (starts[:, None] + steps.minimum(sizes[:, None] - 1)).flatten()
            self._back = self._real.flatten().nonzero().flatten()

    def padded(self, x: Tensor, *, fill: bool = False) -> Tensor:
        """(n, H, hd) to (B * Hkv, G * T, hd), a group's query heads end to end. Padding repeats
        the last token; ``fill``: is zero."""
        count = x.shape[1] // self._heads
        x = x.reshape(len(x), -1)
        if self._rows is not None:
            x = x.index_select(0, self._rows)
            if fill:
                x = x.masked_fill_(~self._real.view(-1, 1), 0)
        x = x.view(self.batch, self.longest, self._heads, count, -1).permute(0, 2, 3, 1, 4)
        return x.reshape(self.batch * self._heads, count * self.longest, x.shape[-1])

    def real(self, x: Tensor) -> Tensor:
        """The reverse of `padded`, without the padding."""
        x = x.view(self.batch, self._heads, -1, self.longest, x.shape[-1]).permute(0, 3, 1, 2, 4)
        x = x.reshape(self.batch * self.longest, -1, x.shape[-1])
        return x if self._back is None else x.index_select(0, self._back)


def _hidden(lengths: tuple[int, ...], causal: bool, like: Tensor) -> Tensor | None:
    """-inf where a query must not attend, added to (B, H, T, T). Behind a causal mask, padding on
    the right is seen by nobody who counts."""
    longest = max(lengths)
    if causal:
        return like.new_full((longest, longest), float("-inf")).triu_(1)
    if min(lengths) == longest:
        return None
    real = torch.arange(longest) < torch.tensor(lengths)[:, None]
    return like.new_zeros(len(lengths), 1, 1, longest).masked_fill_(
        ~real[:, None, None], float("-inf")
    )
