"""Blocks of 4 bits on the grid of int8: progressive quantization (QServe, Lin et al. 2024).

A matrix of 4-bit codes is rounded to codes of 8 bits with a float16 scale for each group, and
these are kept as the 4-bit codes that they come from, with a line of two bytes for each half of a
group:

    code8 = (slope * code4 >> 4) + start

So a product of few rows reads little more than half a byte a weight, one of many rows uses the
codes of 8 bits, unpacked once, and both are the same sum of the same integers. The 4-bit codes
stay as they are; what is lost is what int8 loses. Not covered: the layout (`matrix`), products.

Legend: n rows, B blocks of a row, each a half of a group, g weights of a block.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.model.quant.matrix import GROUPS, QuantizedMatrix, pack, unpack
from lmstack.model.quant.quantize import inverse, scales_for

__all__ = ["fits_lines", "on_lines"]

_STEPS = 16  # of a slope for each code of 8 bits
_STEEPEST = 255 / _STEPS
_CHUNK = 1 << 20  # weights worked on at a time
_NEAR = (0, -1, 1)  # slopes that are tried beside the nearest, in their steps


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
    blocks = codes.view(rows, G, matrix.group)
    if G % 2:
        blocks, steps, lows = F.pad(blocks, (0, 0, 0, 1)), F.pad(steps, (0, 1)), F.pad(lows, (0, 1))
    at_once = max(1, _CHUNK // blocks[0].numel())
    parts = zip(*(torch.split(each, at_once) for each in (blocks, steps, lows)), strict=True)
    fitted = [_fitted(*part) for part in parts]
    codes, slopes, starts, scales = (torch.cat(found) for found in zip(*fitted, strict=True))
    return pack(
        codes.flatten(1)[:, : matrix.cols],
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
    """Weights ``steps * blocks + lows``, blocks (n, B, g) of codes, to codes, slopes and starts
    (n, B), uint8, and scales (n, B / 2) float16."""
    falling = steps < 0
    blocks = torch.where(falling[..., None], 15 - blocks, blocks)
    lows, steps = torch.where(falling, lows + 15 * steps, lows), steps.abs()
    codes = blocks.float()
    weights = codes * steps[..., None] + lows[..., None]
    # As large that neither a weight nor a slope is too large for its byte.
    largest = torch.maximum(weights.abs().amax(-1), steps * (127 / _STEEPEST))
    scales = scales_for(largest.view(len(largest), -1, 2).amax(-1))
    units = inverse(scales).repeat_interleave(2, dim=1)
    weights *= units[..., None]
    nearest = (steps * units * _STEPS).round()
    best, least = (nearest, lows), torch.full_like(lows, torch.inf)
    for more in _NEAR:
        slopes = (nearest + more).clamp(0, 255)
        rise = (codes * (slopes / _STEPS)[..., None]).floor()
        rest = weights - rise
        starts = rest.mean(-1).round()
        starts = starts.clamp(-127 - rise.amin(-1), 127 - rise.amax(-1))
        error = (rest - starts[..., None]).square().sum(-1)
        better = error < least
        best = torch.where(better, slopes, best[0]), torch.where(better, starts, best[1])
        least = torch.minimum(error, least)
    slopes, starts = best
    return blocks, slopes.to(torch.uint8), (starts + 128).to(torch.uint8), scales
