"""Float weights to the blocks that we write: Q8_0 and Q4_0, bit for bit as ggml's reference.

The inverse of `blocks`, for blocks of 32. Source: ggml's ``quantize_row_q8_0_ref`` and
``quantize_row_q4_0_ref``. Not covered: k-quants and importance matrices.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["BLOCK", "QUANTIZERS"]

BLOCK = 32


def _reciprocal(scale: Tensor) -> Tensor:
    """1 / scale, 0 for a scale of zero or so near it that the quotient is none."""
    inverse = 1.0 / scale
    return torch.where(inverse.isfinite(), inverse, 0.0)


def _q8_0(blocks: Tensor) -> Tensor:
    scale = blocks.abs().amax(-1, keepdim=True) / 127
    # Halves are rounded away from zero, as C's roundf does.
    scaled = blocks * _reciprocal(scale)
    quants = torch.trunc(scaled + torch.copysign(torch.tensor(0.5), scaled))
    # Adding a half may carry a number just below it up to the next.
    quants = torch.where((scaled - torch.trunc(scaled)).abs() < 0.5, torch.trunc(scaled), quants)
    return torch.cat((_half(scale), quants.to(torch.int8).view(torch.uint8)), dim=-1)


def _q4_0(blocks: Tensor) -> Tensor:
    """The weight of the largest size becomes -8, so that both ends of the range are used."""
    largest = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = largest / -8
    # In float64, where the sum is not rounded before it is cut off.
    shifted = blocks.double() * _reciprocal(scale).double() + 8.5
    quants = shifted.clamp(0, 15).to(torch.uint8)
    low, high = quants.chunk(2, dim=-1)
    return torch.cat((_half(scale), low | (high << 4)), dim=-1)


def _half(scale: Tensor) -> Tensor:
    return scale.half().view(torch.uint8)


# (n, 32) float32 to (n, bytes of a block) uint8.
QUANTIZERS: dict[str, Callable[[Tensor], Tensor]] = {"Q8_0": _q8_0, "Q4_0": _q4_0}
