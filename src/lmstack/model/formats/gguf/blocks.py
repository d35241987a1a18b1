"""Block types of GGUF: their sizes, and how each becomes float32, bit for bit as in ggml.

A block is a run of weights that share scales. Most types are codes on a grid,

    weight = scale * (code - zero) + min

with a scale, and for some a min, for each group of the block: `Grid` reads the codes as they are,
which is how a quantized matrix keeps them (`gguf_matrices`), and dequantizing is that formula.
Those that look their weights up are in `gguf_codebooks`. All functions work on many blocks at
once: ``raw`` (n, bytes of a block) uint8. Source: ggml's ``dequantize_row_*``; the order of
roundings is kept, so sums are never fused. Not covered: IQ1, IQ2 and IQ3, which are refused by
name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.model.formats.gguf.codebooks import iq4_nl, iq4_xs, mxfp4, tq1_0, tq2_0

__all__ = ["BLOCK_TYPES", "TYPE_NAMES", "BlockType", "Grid", "dequantize_into"]

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


Scales = tuple[Tensor, Tensor | None]


@dataclass(frozen=True)
class Grid:
    """``codes(raw, out)`` fills ``out`` (n, weights), of any dtype, with numbers of ``bits``
    bits; ``scales(raw)`` gives scales and mins (n, weights / group) float32."""

    bits: int
    group: int
    zero: int
    codes: Callable[[Tensor, Tensor], None]
    scales: Callable[[Tensor], Scales]

    def convert(self, raw: Tensor, out: Tensor) -> None:
        """``out`` (n, weights) float32."""
        self.codes(raw, out)
        scales, mins = self.scales(raw)
        groups = out.view(len(raw), -1, self.group)
        if self.zero:
            groups.sub_(self.zero)
        groups.mul_(scales[..., None])
        if mins is not None:
            groups.add_(mins[..., None])


@dataclass(frozen=True)
class BlockType:
    """``weights`` in a block of ``size`` bytes: on a ``grid``, or through ``lookup(raw, out)``,
    or plain floats, which are read through ``plain``."""

    name: str
    weights: int
    size: int
    grid: Grid | None = None
    lookup: Callable[[Tensor, Tensor], None] | None = None
    plain: torch.dtype | None = None


def _half(raw: Tensor) -> Tensor:
    """(n, 2) bytes to (n, 1) float32."""
    return raw.contiguous().view(torch.float16).float()


def _one_scale(at: int) -> Callable[[Tensor], Scales]:
    """Of blocks that are one group, with the scale at byte ``at``."""
    return lambda raw: (_half(raw[:, at : at + 2]), None)


def _scale_and_min(raw: Tensor) -> Scales:
    return _half(raw[:, :2]), _half(raw[:, 2:4])


def _nibbles(raw: Tensor, out: Tensor) -> None:
    """(n, g, k) bytes to (n, g, 2, k): low halves, then high halves."""
    out[..., 0, :] = raw & 15
    out[..., 1, :] = raw >> 4


def _high_bits(raw: Tensor, count: int, width: int) -> Tensor:
    """(n, k) bytes to (n, count, k): field j of ``width`` bits of each byte."""
    fields = [(raw >> (width * j)) & ((1 << width) - 1) for j in range(count)]
    return torch.stack(fields, dim=1)


def _q4(start: int) -> Callable[[Tensor, Tensor], None]:
    """Q4_0 and Q4_1, whose codes begin at byte ``start``."""
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
    """(n, 2, 32) bytes of four fields to (n, 256): Q2_K and Q3_K."""
    spread = out.view(-1, 2, 4, 32)
    for j in range(4):
        spread[:, :, j] = (quants >> (2 * j)) & 3


def _q2_k(raw: Tensor, out: Tensor) -> None:
    _twos(raw[:, 16:80].reshape(-1, 2, 32), out)


def _q2_k_scales(raw: Tensor) -> Scales:
    scales = raw[:, :16]
    return _half(raw[:, 80:82]) * (scales & 15), -(_half(raw[:, 82:84]) * (scales >> 4))


def _q3_k(raw: Tensor, out: Tensor) -> None:
    _twos(raw[:, 32:96].reshape(-1, 2, 32), out)
    out.add_((_high_bits(raw[:, :32], 8, 1) << 2).view(-1, 256))


def _q3_k_scales(raw: Tensor) -> Scales:
    packed = raw[:, 96:108]
    low = torch.cat((packed[:, :8] & 15, packed[:, :8] >> 4), dim=1)
    high = _high_bits(packed[:, 8:], 4, 2).reshape(-1, 16)
    return _half(raw[:, 108:110]) * ((low | (high << 4)).float() - 32), None


def _k_scales(raw: Tensor) -> Scales:
    """Scale and minimum of the eight groups of Q4_K and Q5_K, 6 bits each."""
    packed = raw[:, 4:16]
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 2) & 48)), dim=1)
    minima = torch.cat((second & 63, (third >> 4) | ((second >> 2) & 48)), dim=1)
    return _half(raw[:, :2]) * scales, -(_half(raw[:, 2:4]) * minima)


def _q4_k(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, 16:].reshape(-1, 4, 32), out.view(-1, 4, 2, 32))


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
    return _half(raw[:, 208:210]) * raw[:, 192:208].view(torch.int8), None


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
    20: BlockType("IQ4_NL", 32, 18, lookup=iq4_nl),
    23: BlockType("IQ4_XS", 256, 136, lookup=iq4_xs),
    28: BlockType("F64", 1, 8, plain=torch.float64),
    30: BlockType("BF16", 1, 2, plain=torch.bfloat16),
    34: BlockType("TQ1_0", 256, 54, lookup=tq1_0),
    35: BlockType("TQ2_0", 256, 66, lookup=tq2_0),
    39: BlockType("MXFP4", 32, 17, lookup=mxfp4),
}


def dequantize_into(kind: BlockType, raw: Tensor, out: Tensor) -> None:
    """``raw``: all bytes of a tensor, uint8; ``out``: as many weights, contiguous, any float."""
    flat = out.view(-1)
    convert = kind.lookup if kind.grid is None else kind.grid.convert
    if convert is None:
        assert kind.plain is not None
        flat.copy_(raw.view(kind.plain))
        return
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
