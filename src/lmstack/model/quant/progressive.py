"""Blocks of 4 bits on the grid of int8: progressive quantization (QServe, Lin et al. 2024).

A matrix of 4-bit codes is rounded to codes of 8 bits with a float16 scale for each group, and
these are kept as the 4-bit codes that they come from, with a line of two bytes for each half of a
group, a slope of at most 16 and a start:

    code8 = slope * code4 + start

So a product of few rows reads little more than half a byte a weight and is that of the 4-bit codes
until a half of a group is done; one of many rows uses the codes of 8 bits, unpacked once; both are
the same integer. The 4-bit codes stay as they are; what is lost is what int8 loses, because of many
scales of a group the one is taken with which both slopes come nearest to whole numbers.
Not covered: the layout (`matrix`), products.

Legend: n groups, two blocks each, its halves, of g codes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.model.quant.matrix import GROUPS, QuantizedMatrix, pack, unpack
from lmstack.model.quant.quantize import inverse, rounded_scales, scales_for

__all__ = ["fits_lines", "on_lines"]

_STEEPEST = 16  # 15 times as much is as far as codes of 8 bits reach
# Weights worked on at a time: in groups of 64 just few enough for torch to stay in one thread.
_CHUNK = 1_000_000
_TRIES = 16  # scales from which a group is fitted, up to twice the smallest


def fits_lines(matrix: QuantizedMatrix) -> bool:
    """Whether `on_lines` takes ``matrix``: its codes are on a line, in the order of the model."""
    plain = matrix.codebook is None and matrix.lines is None and matrix.order is None
    return plain and matrix.bits == 4 and 2 * matrix.group in GROUPS


def on_lines(matrix: QuantizedMatrix) -> QuantizedMatrix:
    """``matrix`` in groups of twice as many inputs, its weights rounded to codes of 8 bits."""
    codes, scales, mins = unpack(matrix)
    rows, G = scales.shape
    steps = scales.float()
    lows = steps * -matrix.zero
    if mins is not None:
        lows += mins.float()
    blocks = codes.reshape(rows, G, matrix.group)
    if G % 2:
        blocks, steps, lows = F.pad(blocks, (0, 0, 0, 1)), F.pad(steps, (0, 1)), F.pad(lows, (0, 1))
    each = (blocks.reshape(-1, 2, matrix.group), steps.reshape(-1, 2), lows.reshape(-1, 2))
    at_once = max(1, _CHUNK // (2 * matrix.group))
    fitted = [_fitted(*part) for part in zip(*(torch.split(x, at_once) for x in each), strict=True)]
    codes, *found = (torch.cat(parts) for parts in zip(*fitted, strict=True))
    slopes, starts, scales = (values.view(rows, -1) for values in found)
    return pack(
        codes.view(rows, -1)[:, : matrix.cols],
        scales,
        None,
        bits=4,
        group=2 * matrix.group,
        zero=128,
        paired=matrix.paired,
        slopes=slopes,
        starts=starts,
    )


def _fitted(blocks: Tensor, steps: Tensor, lows: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Weights ``steps * blocks + lows``, blocks (n, 2, g) of codes, to codes, slopes and starts
    (n, 2), uint8, and scales (n,) float16."""
    falling = steps < 0
    if bool(falling.any()):
        blocks = torch.where(falling[..., None], 15 - blocks, blocks)
        lows, steps = torch.where(falling, lows + 15 * steps, lows), steps.abs()
    codes = blocks.float().flatten(0, 1)
    share = torch.full((codes.shape[1],), 1 / codes.shape[1])
    mean = (codes @ share).view_as(steps)
    spread = (codes.square_() @ share).view_as(steps) - mean.square()
    # The halves one after the other: sums over them and what is asked of both read memory in order.
    steps, lows, mean, spread = (x.T.contiguous() for x in (steps, lows, mean, spread))
    middles = lows + steps * mean
    # As large that neither a weight nor a slope is too large.
    ends = torch.maximum(lows.abs(), (lows + 15 * steps).abs())
    least = torch.maximum(ends, steps * (127 / _STEEPEST)).amax(0)
    best, error = (steps, lows, scales_for(2 * least)), torch.full_like(least, torch.inf)
    for tried in range(_TRIES):
        # Slopes by one scale, then the scale that is best for these.
        slopes = (steps * (127 * inverse(least * 2 ** (tried / _TRIES)))).round_()
        fit = (slopes * steps * spread).sum(0) * inverse((slopes.square() * spread).sum(0))
        scales = rounded_scales(torch.maximum(127 * fit, least)).float()
        starts = (middles * inverse(scales) - slopes * mean).round_()
        starts = starts.clamp_(min=-127).minimum(127 - 15 * slopes)
        rise = steps - slopes * scales
        rest = middles - (slopes * mean + starts) * scales
        found = (rise.square_() * spread + rest.square_()).sum(0)
        better = found < error
        error = torch.minimum(found, error)
        each = torch.where(better, slopes, best[0]), torch.where(better, starts, best[1])
        best = (*each, torch.where(better, scales, best[2]))
    slopes, starts, scales = best
    return blocks, slopes.T.to(torch.uint8), (starts.T + 128).to(torch.uint8), scales.half()
