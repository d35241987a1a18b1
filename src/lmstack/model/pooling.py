"""One vector from the hidden states of a sequence, for varlen batches.

Legend: N tokens of a varlen batch, S sequences, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

__all__ = ["SequencePooling", "pool_varlen"]

SequencePooling = Literal["first", "last", "mean", "max", "mean_sqrt_len"]


def pool_varlen(hidden: Tensor, lengths: Sequence[int], mode: SequencePooling) -> Tensor:
    """(N, D) to (S, D); no sequence is empty. ``mean_sqrt_len``: the sum over the root of the
    number of tokens (Reimers and Gurevych, 2019)."""
    counts = torch.tensor(lengths, device=hidden.device)
    ends = counts.cumsum(0)
    if mode == "first":
        return hidden[ends - counts]
    if mode == "last":
        return hidden[ends - 1]
    rows = torch.arange(len(lengths), device=hidden.device).repeat_interleave(counts)
    empty = hidden.new_zeros(len(lengths), hidden.shape[1])
    if mode == "max":
        places = rows[:, None].expand_as(hidden)
        return empty.scatter_reduce(0, places, hidden, "amax", include_self=False)
    sums = empty.index_add(0, rows, hidden)
    weights = counts.to(hidden.dtype)[:, None]
    return sums / (weights if mode == "mean" else weights.sqrt())
