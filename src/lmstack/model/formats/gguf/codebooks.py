"""GGUF blocks whose weights are looked up or are three-valued: IQ4, MXFP4, TQ.

As in `gguf_blocks`, ``raw`` (n, bytes of a block) uint8 to ``out`` (n, weights) float32, bit for
bit as in ggml. Not covered: the types whose codebooks are tables of thousands (IQ1, IQ2, IQ3).
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["iq4_nl", "iq4_xs", "mxfp4", "tq1_0", "tq2_0"]

_IQ4 = torch.tensor(
    (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113), dtype=torch.float32
)
# The values of E2M1, doubled; its scales are halved in turn.
_E2M1 = torch.tensor((0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12), dtype=torch.float32)


def _half(raw: Tensor) -> Tensor:
    """(n, 2) bytes to (n, 1) float32."""
    return raw.contiguous().view(torch.float16).float()


def _look_up(table: Tensor, raw: Tensor, out: Tensor) -> None:
    """(n, g, k) bytes to (n, g, 2, k): values of low halves, then of high halves."""
    out[..., 0, :] = table[(raw & 15).int()]
    out[..., 1, :] = table[(raw >> 4).int()]


def iq4_nl(raw: Tensor, out: Tensor) -> None:
    _look_up(_IQ4, raw[:, None, 2:], out.view(-1, 1, 2, 16))
    out.mul_(_half(raw[:, :2]))


def iq4_xs(raw: Tensor, out: Tensor) -> None:
    """Eight groups of 32; the six bits of a group's scale are four in one place, two in another."""
    _look_up(_IQ4, raw[:, 8:].reshape(-1, 8, 16), out.view(-1, 8, 2, 16))
    low = torch.stack((raw[:, 4:8] & 15, raw[:, 4:8] >> 4), dim=-1).view(-1, 8)
    pairs = [(raw[:, 2 + j // 4] >> (2 * (j % 4))) & 3 for j in range(8)]
    scales = (low | (torch.stack(pairs, dim=1) << 4)).float() - 32
    out.view(-1, 8, 32).mul_((_half(raw[:, :2]) * scales)[..., None])


def mxfp4(raw: Tensor, out: Tensor) -> None:
    """The first byte is the exponent of the scale, biased by 127 and halved: below 2 it would be
    subnormal."""
    _look_up(_E2M1, raw[:, None, 1:], out.view(-1, 1, 2, 16))
    exponent = raw[:, :1].int()
    bits = torch.where(exponent < 2, 0x00200000 << exponent.clamp(max=1), (exponent - 1) << 23)
    out.mul_(bits.view(torch.float32))


def tq1_0(raw: Tensor, out: Tensor) -> None:
    """Five digits of base 3 in a byte, the first in its highest part."""
    at = 0
    for start, size, count in ((0, 32, 5), (32, 16, 5), (48, 4, 4)):
        block = raw[:, start : start + size]
        for digit in range(count):
            # The product wraps around at 256, as it does in ggml.
            turned = block * (3**digit)
            out[:, at : at + size] = ((turned.int() * 3) >> 8).float() - 1
            at += size
    out.mul_(_half(raw[:, 52:54]))


def tq2_0(raw: Tensor, out: Tensor) -> None:
    spread = out.view(-1, 2, 4, 32)
    quants = raw[:, :64].reshape(-1, 2, 32)
    for j in range(4):
        spread[:, :, j] = (quants >> (2 * j)) & 3
    out.sub_(1).mul_(_half(raw[:, 64:66]))
