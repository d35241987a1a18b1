"""Block types of GGUF: their sizes, and how each becomes float32, bit for bit as in ggml.

A block is a run of weights that share scales. All types but plain floats are codes on a grid,

    weight = scale * (code - zero) + min

with a scale, and for some a min, for each group of the block; the K types and IQ4_XS have integer
codes of these, with a float16 for the whole block. IQ4 and MXFP4 look their codes up in a codebook
of 16. `Grid` reads codes and scales as they are, which is how a quantized matrix keeps them
(`matrices`), and dequantizing is that formula. All functions work on many blocks at once: ``raw``
(n, bytes of a block) uint8. Source: ggml's ``dequantize_row_*``; the order of roundings is kept,
so sums are never fused. Not covered: IQ1, IQ2 and IQ3, whose codebooks are tables of thousands;
they are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["BLOCK_TYPES", "TYPE_NAMES", "BlockType", "Grid", "Scales", "dequantize_into"]

# Names of all types, to refuse by name those that are not implemented.
TYPE_NAMES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0", 9: "Q8_1",
    10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 15: "Q8_K", 16: "IQ2_XXS",
    17: "IQ2_XS", 18: "IQ3_XXS", 19: "IQ1_S", 20: "IQ4_NL", 21: "IQ3_S", 22: "IQ2_S",
    23: "IQ4_XS", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 29: "IQ1_M",
    30: "BF16", 34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4",
}  # fmt: skip

# Weights converted at a time: temporaries of this many float32 stay in the cache.
_CHUNK = 1 << 18


# What nibbles stand for, plus 128. E2M1 is doubled; its scales are halved in turn.
_IQ4 = (1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241)
_E2M1 = (128, 129, 130, 131, 132, 134, 136, 140, 128, 127, 126, 125, 124, 122, 120, 116)


class Scales(NamedTuple):
    """Of n blocks, float32: one for each group, or one for each block with ``codes`` and
    ``min_codes`` (n, groups) int8, by which they are multiplied."""

    scales: Tensor
    mins: Tensor | None = None
    codes: Tensor | None = None
    min_codes: Tensor | None = None

    def of_groups(self) -> tuple[Tensor, Tensor | None]:
        """(n, groups) float32; a product of float16 and int8 is exact."""
        if self.codes is None:
            return self.scales, self.mins
        if self.mins is None or self.min_codes is None:
            return self.scales * self.codes, None
        return self.scales * self.codes, self.mins * self.min_codes


@dataclass(frozen=True)
class Grid:
    """``codes(raw, out)`` fills ``out`` (n, weights), of any dtype, with numbers of ``bits``
    bits; ``scales(raw)`` gives the scales of groups of ``group``. ``codebook``: what codes stand
    for, before ``zero`` is taken off."""

    bits: int
    group: int
    zero: int
    codes: Callable[[Tensor, Tensor], None]
    scales: Callable[[Tensor], Scales]
    codebook: tuple[int, ...] | None = None

    def convert(self, raw: Tensor, out: Tensor) -> None:
        """``out`` (n, weights) float32."""
        self.codes(raw, out)
        if self.codebook is not None:
            out.copy_(torch.tensor(self.codebook, dtype=torch.float32)[out.int()])
        scales, mins = self.scales(raw).of_groups()
        groups = out.view(len(raw), -1, self.group)
        if self.zero:
            groups.sub_(self.zero)
        groups.mul_(scales[..., None])
        if mins is not None:
            groups.add_(mins[..., None])


@dataclass(frozen=True)
class BlockType:
    """``weights`` in a block of ``size`` bytes: on a ``grid``, or plain floats, which are read
    through ``plain``."""

    name: str
    weights: int
    size: int
    grid: Grid | None = None
    plain: torch.dtype | None = None


def _half(raw: Tensor) -> Tensor:
    """(n, 2) bytes to (n, 1) float32."""
    return raw.contiguous().view(torch.float16).float()


def _one_scale(at: int) -> Callable[[Tensor], Scales]:
    """Of blocks that are one group, with the scale at byte ``at``."""
    return lambda raw: Scales(_half(raw[:, at : at + 2]))


def _scale_and_min(raw: Tensor) -> Scales:
    return Scales(_half(raw[:, :2]), _half(raw[:, 2:4]))


def _coded(
    raw: Tensor, at: int, codes: Tensor, mins_at: int | None = None, minima: Tensor | None = None
) -> Scales:
    """The float16 at byte ``at``, and the one at ``mins_at``, which is of minus the mins; what
    multiplies them for each group fits int8."""
    mins = None if mins_at is None else -_half(raw[:, mins_at : mins_at + 2])
    min_codes = None if minima is None else minima.to(torch.int8)
    return Scales(_half(raw[:, at : at + 2]), mins, codes.to(torch.int8), min_codes)


def _nibbles(raw: Tensor, out: Tensor) -> None:
    """(n, g, k) bytes to (n, g, 2, k): low halves, then high halves."""
    out[..., 0, :] = raw & 15
    out[..., 1, :] = raw >> 4


def _high_bits(raw: Tensor, count: int, width: int) -> Tensor:
    """(n, k) bytes to (n, count, k): field j of ``width`` bits of each byte."""
    fields = [(raw >> (width * j)) & ((1 << width) - 1) for j in range(count)]
    return torch.stack(fields, dim=1)


def _q4(start: int) -> Callable[[Tensor, Tensor], None]:
    """Of 32 weights whose codes begin at byte ``start``."""
    return lambda raw, out: _nibbles(raw[:, None, start:], out.view(-1, 1, 2, 16))


def _q5(start: int) -> Callable[[Tensor, Tensor], None]:
    """Q5_0 and Q5_1: four bytes of fifth bits, lowest first, at ``start``, then the others."""

    def codes(raw: Tensor, out: Tensor) -> None:
        _nibbles(raw[:, None, start + 4 :], out.view(-1, 1, 2, 16))
        fifth = _high_bits(raw[:, start : start + 4], 8, 1).transpose(1, 2).reshape(-1, 32)
        out.add_(fifth << 4)

    return codes


def _q8_0(raw: Tensor, out: Tensor) -> None:
    # A signed byte with its highest bit turned over is that byte plus 128.
    out.copy_(raw[:, 2:] ^ 128)


def _twos(quants: Tensor, out: Tensor) -> None:
    """(n, 2, 32) bytes of four fields to (n, 256): Q2_K, Q3_K and TQ2_0."""
    spread = out.view(-1, 2, 4, 32)
    for j in range(4):
        spread[:, :, j] = (quants >> (2 * j)) & 3


def _tq2_0(raw: Tensor, out: Tensor) -> None:
    _twos(raw[:, :64].reshape(-1, 2, 32), out)


def _q2_k(raw: Tensor, out: Tensor) -> None:
    _twos(raw[:, 16:80].reshape(-1, 2, 32), out)


def _q2_k_scales(raw: Tensor) -> Scales:
    codes = raw[:, :16]
    return _coded(raw, 80, codes & 15, 82, codes >> 4)


def _q3_k(raw: Tensor, out: Tensor) -> None:
    _twos(raw[:, 32:96].reshape(-1, 2, 32), out)
    out.add_((_high_bits(raw[:, :32], 8, 1) << 2).view(-1, 256))


def _q3_k_scales(raw: Tensor) -> Scales:
    packed = raw[:, 96:108]
    low = torch.cat((packed[:, :8] & 15, packed[:, :8] >> 4), dim=1)
    high = _high_bits(packed[:, 8:], 4, 2).reshape(-1, 16)
    return _coded(raw, 108, (low | (high << 4)).to(torch.int8) - 32)


def _k_scales(raw: Tensor) -> Scales:
    """Scale and minimum of the eight groups of Q4_K and Q5_K, 6 bits each."""
    packed = raw[:, 4:16]
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 2) & 48)), dim=1)
    minima = torch.cat((second & 63, (third >> 4) | ((second >> 2) & 48)), dim=1)
    return _coded(raw, 0, scales, 2, minima)


def _q4_k(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, 16:].reshape(-1, 4, 32), out.view(-1, 4, 2, 32))


def _iq4_xs(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, 8:].reshape(-1, 8, 16), out.view(-1, 8, 2, 16))


def _q5_k(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, 48:].reshape(-1, 4, 32), out.view(-1, 4, 2, 32))
    out.view(-1, 8, 32).add_(_high_bits(raw[:, 16:48], 8, 1) << 4)


def _q6_k(raw: Tensor, out: Tensor) -> None:
    low, high = raw[:, :128].reshape(-1, 2, 64), raw[:, 128:192].reshape(-1, 2, 32)
    _nibbles(low, out.view(-1, 2, 2, 64))
    spread = out.view(-1, 2, 4, 32)
    for j in range(4):
        spread[:, :, j] += ((high >> (2 * j)) & 3) << 4


def _q6_k_scales(raw: Tensor) -> Scales:
    return _coded(raw, 208, raw[:, 192:208].view(torch.int8))


def _iq4_xs_scales(raw: Tensor) -> Scales:
    """Eight groups of 32; the six bits of a group's scale are four in one place, two in another."""
    low = torch.stack((raw[:, 4:8] & 15, raw[:, 4:8] >> 4), dim=-1).view(-1, 8)
    pairs = [(raw[:, 2 + j // 4] >> (2 * (j % 4))) & 3 for j in range(8)]
    codes = low | (torch.stack(pairs, dim=1) << 4)
    return _coded(raw, 0, codes.to(torch.int8) - 32)


def _mxfp4_scales(raw: Tensor) -> Scales:
    """The first byte is the exponent of the scale, biased by 127 and halved: below 2 it would be
    subnormal."""
    exponent = raw[:, :1].int()
    bits = torch.where(exponent < 2, 0x00200000 << exponent.clamp(max=1), (exponent - 1) << 23)
    return Scales(bits.view(torch.float32))


def _tq1_0(raw: Tensor, out: Tensor) -> None:
    """Five digits of base 3 in a byte, the first in its highest part."""
    at = 0
    for start, size, count in ((0, 32, 5), (32, 16, 5), (48, 4, 4)):
        block = raw[:, start : start + size]
        for digit in range(count):
            # The product wraps around at 256, as it does in ggml.
            turned = block * (3**digit)
            out[:, at : at + size] = (turned.int() * 3) >> 8
            at += size


BLOCK_TYPES = {
    0: BlockType("F32", 1, 4, plain=torch.float32),
    1: BlockType("F16", 1, 2, plain=torch.float16),
    2: BlockType("Q4_0", 32, 18, Grid(4, 32, 8, _q4(2), _one_scale(0))),
    3: BlockType("Q4_1", 32, 20, Grid(4, 32, 0, _q4(4), _scale_and_min)),
    6: BlockType("Q5_0", 32, 22, Grid(5, 32, 16, _q5(2), _one_scale(0))),
    7: BlockType("Q5_1", 32, 24, Grid(5, 32, 0, _q5(4), _scale_and_min)),
    8: BlockType("Q8_0", 32, 34, Grid(8, 32, 128, _q8_0, _one_scale(0))),
    10: BlockType("Q2_K", 256, 84, Grid(2, 16, 0, _q2_k, _q2_k_scales)),
    11: BlockType("Q3_K", 256, 110, Grid(3, 16, 4, _q3_k, _q3_k_scales)),
    12: BlockType("Q4_K", 256, 144, Grid(4, 32, 0, _q4_k, _k_scales)),
    13: BlockType("Q5_K", 256, 176, Grid(5, 32, 0, _q5_k, _k_scales)),
    14: BlockType("Q6_K", 256, 210, Grid(6, 16, 32, _q6_k, _q6_k_scales)),
    20: BlockType("IQ4_NL", 32, 18, Grid(4, 32, 128, _q4(2), _one_scale(0), _IQ4)),
    23: BlockType("IQ4_XS", 256, 136, Grid(4, 32, 128, _iq4_xs, _iq4_xs_scales, _IQ4)),
    28: BlockType("F64", 1, 8, plain=torch.float64),
    30: BlockType("BF16", 1, 2, plain=torch.bfloat16),
    34: BlockType("TQ1_0", 256, 54, Grid(2, 256, 1, _tq1_0, _one_scale(52))),
    35: BlockType("TQ2_0", 256, 66, Grid(2, 256, 1, _tq2_0, _one_scale(64))),
    39: BlockType("MXFP4", 32, 17, Grid(4, 32, 128, _q4(1), _mxfp4_scales, _E2M1)),
}


def dequantize_into(kind: BlockType, raw: Tensor, out: Tensor) -> None:
    """``raw``: all bytes of a tensor, uint8; ``out``: as many weights, contiguous, any float."""
    flat = out.view(-1)
    if kind.grid is None:
        assert kind.plain is not None
        flat.copy_(raw.view(kind.plain))
        return
    convert = kind.grid.convert
    blocks = raw.view(-1, kind.size)
    step = _CHUNK // kind.weights
    scratch = None if out.dtype == torch.float32 else torch.empty(_CHUNK)
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        target = flat[start * kind.weights : (start + len(part)) * kind.weights]
        if scratch is None:
            convert(part, target.view(-1, kind.weights))
            continue
        convert(part, scratch[: target.numel()].view(-1, kind.weights))
        target.copy_(scratch[: target.numel()])
