"""The NormalFloat of QLoRA (Dettmers et al., 2023) and its double quantization, bit by bit as
bitsandbytes has them.

    scale[o][g] = scales[0] + scales[1 + (o * G + g) // 256] * DYNAMIC[scale_code[o][g] + 128]

Legend: G groups of a row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["DYNAMIC", "NF4", "dequantized_scales", "double_quantized", "middles", "nf4_scales"]

NF4 = torch.tensor(
    (
        -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
        -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
        0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
        0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
    )
)  # fmt: skip
_BLOCK = 256  # scales of NF4 that share a scale


def _dynamic() -> Tensor:
    """(256,) float32, ascending: the 8-bit numbers in [-1, 1] of Dettmers 2015 (arXiv 1511.04561)
    as bitsandbytes has them. Of each power of ten from 1e-7 to 1 the middles of 1, 2, 4 ... 64
    equal parts with both signs, and 0 and 1."""
    numbers = [torch.tensor((0.0, 1.0))]
    for power in range(7):
        ends = torch.linspace(0.1, 1, 2**power + 1)
        middles = 10.0 ** (power - 6) * ((ends[:-1] + ends[1:]) / 2)
        numbers += [middles, -middles]
    return torch.cat(numbers).sort().values


DYNAMIC = _dynamic()


def nf4_scales(rows: int, groups: int) -> int:
    """How many scales a matrix holds: what is added to each, one for every 256 groups, and zeros
    up to 64 bytes, so that what follows in a file is aligned."""
    blocks = -(-rows * groups // _BLOCK)
    return -(-(1 + blocks) // 16) * 16


def double_quantized(largest: Tensor) -> tuple[Tensor, Tensor]:
    """(rows, G), the largest of each group, to codes (rows, G) int8 and the scales that go with
    them, (`nf4_scales`,)."""
    offset = largest.mean()
    blocks = (largest - offset).flatten()
    missing = -len(blocks) % _BLOCK
    blocks = F.pad(blocks, (0, missing)).view(-1, _BLOCK)
    most = blocks.abs().amax(-1)
    scaled = (blocks * torch.where(most == 0, 0.0, 1 / most)[:, None]).clamp(-1, 1)
    # bitsandbytes looks up where each of 65,536 numbers belongs, so middles lie between two.
    places = ((scaled + 1) * 0.5 * 65535 + 0.5).floor()
    codes = torch.bucketize(places * 2 / 65535 - 1, middles(DYNAMIC))
    codes = (codes - 128).flatten()[: largest.numel()].view(largest.shape)
    scales = torch.cat((offset[None], most))
    rows, G = largest.shape
    return codes.to(torch.int8), F.pad(scales, (0, nf4_scales(rows, G) - len(scales)))


def dequantized_scales(scales: Tensor, codes: Tensor, rows: Tensor) -> Tensor:
    """(n, G) float32: the scales that ``codes`` (n, G) of ``rows`` (n,) stand for."""
    G = codes.shape[1]
    groups = rows[:, None] * G + torch.arange(G, device=rows.device)
    blocks = scales[1:][groups // _BLOCK]
    return DYNAMIC.to(codes.device)[codes.int() + 128] * blocks + scales[0]


def middles(numbers: Tensor) -> Tensor:
    """Between each two neighbours."""
    return (numbers[1:] + numbers[:-1]) / 2
