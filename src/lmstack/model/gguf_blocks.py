"""Block types of GGUF: their sizes, and how each becomes float32, bit for bit as in ggml.

A block is a run of weights that share scales. All functions work on many blocks at once:
``raw`` (n, bytes of a block) uint8 to ``out`` (n, weights of a block) float32. Source: ggml's
``dequantize_row_*``; the order of roundings is kept, so sums are never fused.
Those that look their weights up are in `gguf_codebooks`. Not covered: IQ1, IQ2 and IQ3, which
are refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lmstack.model.gguf_codebooks import iq4_nl, iq4_xs, mxfp4, tq1_0, tq2_0

__all__ = ["BLOCK_TYPES", "TYPE_NAMES", "BlockType", "dequantize_into"]

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


@dataclass(frozen=True)
class BlockType:
    """``weights`` in a block of ``size`` bytes. ``convert(raw, out)`` is None for plain floats,
    which are read through ``plain``."""

    name: str
    weights: int
    size: int
    convert: Callable[[Tensor, Tensor], None] | None = None
    plain: torch.dtype | None = None


def _half(raw: Tensor) -> Tensor:
    """(n, 2) bytes to (n, 1) float32."""
    return raw.contiguous().view(torch.float16).float()


def _nibbles(raw: Tensor, out: Tensor) -> None:
    """(n, g, k) bytes to (n, g, 2, k): low halves, then high halves."""
    out[..., 0, :] = raw & 15
    out[..., 1, :] = raw >> 4


def _high_bits(raw: Tensor, count: int, width: int) -> Tensor:
    """(n, k) bytes to (n, count, k): field j of ``width`` bits of each byte."""
    fields = [(raw >> (width * j)) & ((1 << width) - 1) for j in range(count)]
    return torch.stack(fields, dim=1)


def _q4_0(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, None, 2:], out.view(-1, 1, 2, 16))
    out.sub_(8).mul_(_half(raw[:, :2]))


def _q4_1(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, None, 4:], out.view(-1, 1, 2, 16))
    out.mul_(_half(raw[:, :2])).add_(_half(raw[:, 2:4]))


def _fifth_bits(raw: Tensor) -> Tensor:
    """(n, 4) bytes to (n, 32) bits, lowest first."""
    return _high_bits(raw, 8, 1).transpose(1, 2).reshape(-1, 32)


def _q5_0(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, None, 6:], out.view(-1, 1, 2, 16))
    out.add_(_fifth_bits(raw[:, 2:6]) << 4).sub_(16).mul_(_half(raw[:, :2]))


def _q5_1(raw: Tensor, out: Tensor) -> None:
    _nibbles(raw[:, None, 8:], out.view(-1, 1, 2, 16))
    out.add_(_fifth_bits(raw[:, 4:8]) << 4)
    out.mul_(_half(raw[:, :2])).add_(_half(raw[:, 2:4]))


def _q8_0(raw: Tensor, out: Tensor) -> None:
    out.copy_(raw[:, 2:].view(torch.int8))
    out.mul_(_half(raw[:, :2]))


def _q2_k(raw: Tensor, out: Tensor) -> None:
    scales, quants = raw[:, :16], raw[:, 16:80].reshape(-1, 2, 32)
    groups = out.view(-1, 16, 16)
    spread = out.view(-1, 2, 4, 32)
    for j in range(4):
        spread[:, :, j] = (quants >> (2 * j)) & 3
    scale = _half(raw[:, 80:82]) * (scales & 15)
    minimum = _half(raw[:, 82:84]) * (scales >> 4)
    groups.mul_(scale[..., None]).sub_(minimum[..., None])


def _q3_k(raw: Tensor, out: Tensor) -> None:
    mask, quants, packed = raw[:, :32], raw[:, 32:96].reshape(-1, 2, 32), raw[:, 96:108]
    low = torch.cat((packed[:, :8] & 15, packed[:, :8] >> 4), dim=1)
    high = _high_bits(packed[:, 8:], 4, 2).reshape(-1, 16)
    scales = (low | (high << 4)).float() - 32
    spread = out.view(-1, 2, 4, 32)
    for j in range(4):
        spread[:, :, j] = (quants >> (2 * j)) & 3
    # A set bit of the mask means that 4 is not taken away.
    missing = 1 - _high_bits(mask, 8, 1)
    out.sub_((missing << 2).view(-1, 256))
    out.view(-1, 16, 16).mul_((_half(raw[:, 108:110]) * scales)[..., None])


def _k_scales(raw: Tensor, packed: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and minimum of the eight groups of Q4_K and Q5_K, 6 bits each, (n, 8, 1)."""
    first, second, third = packed[:, :4], packed[:, 4:8], packed[:, 8:12]
    scales = torch.cat((first & 63, (third & 15) | ((first >> 2) & 48)), dim=1)
    minima = torch.cat((second & 63, (third >> 4) | ((second >> 2) & 48)), dim=1)
    scale, minimum = _half(raw[:, :2]) * scales, _half(raw[:, 2:4]) * minima
    return scale[..., None], minimum[..., None]


def _q4_k(raw: Tensor, out: Tensor) -> None:
    scale, minimum = _k_scales(raw, raw[:, 4:16])
    _nibbles(raw[:, 16:].reshape(-1, 4, 32), out.view(-1, 4, 2, 32))
    out.view(-1, 8, 32).mul_(scale).sub_(minimum)


def _q5_k(raw: Tensor, out: Tensor) -> None:
    scale, minimum = _k_scales(raw, raw[:, 4:16])
    groups = out.view(-1, 8, 32)
    _nibbles(raw[:, 48:].reshape(-1, 4, 32), out.view(-1, 4, 2, 32))
    groups.add_(_high_bits(raw[:, 16:48], 8, 1) << 4).mul_(scale).sub_(minimum)


def _q6_k(raw: Tensor, out: Tensor) -> None:
    low, high = raw[:, :128].reshape(-1, 2, 64), raw[:, 128:192].reshape(-1, 2, 32)
    _nibbles(low, out.view(-1, 2, 2, 64))
    spread = out.view(-1, 2, 4, 32)
    for j in range(4):
        spread[:, :, j] += ((high >> (2 * j)) & 3) << 4
    scales = raw[:, 192:208].view(torch.int8)
    out.sub_(32).view(-1, 16, 16).mul_((_half(raw[:, 208:210]) * scales)[..., None])


BLOCK_TYPES = {
    0: BlockType("F32", 1, 4, plain=torch.float32),
    1: BlockType("F16", 1, 2, plain=torch.float16),
    2: BlockType("Q4_0", 32, 18, _q4_0),
    3: BlockType("Q4_1", 32, 20, _q4_1),
    6: BlockType("Q5_0", 32, 22, _q5_0),
    7: BlockType("Q5_1", 32, 24, _q5_1),
    8: BlockType("Q8_0", 32, 34, _q8_0),
    10: BlockType("Q2_K", 256, 84, _q2_k),
    11: BlockType("Q3_K", 256, 110, _q3_k),
    12: BlockType("Q4_K", 256, 144, _q4_k),
    13: BlockType("Q5_K", 256, 176, _q5_k),
    14: BlockType("Q6_K", 256, 210, _q6_k),
    20: BlockType("IQ4_NL", 32, 18, iq4_nl),
    23: BlockType("IQ4_XS", 256, 136, iq4_xs),
    28: BlockType("F64", 1, 8, plain=torch.float64),
    30: BlockType("BF16", 1, 2, plain=torch.bfloat16),
    34: BlockType("TQ1_0", 256, 54, tq1_0),
    35: BlockType("TQ2_0", 256, 66, tq2_0),
    39: BlockType("MXFP4", 32, 17, mxfp4),
}


def dequantize_into(kind: BlockType, raw: Tensor, out: Tensor) -> None:
    """``raw``: all bytes of a tensor, uint8; ``out``: as many weights, contiguous, any float."""
    flat = out.view(-1)
    if kind.convert is None:
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
            kind.convert(part, target.view(-1, kind.weights))
            continue
        kind.convert(part, scratch[: target.numel()].view(-1, kind.weights))
        target.copy_(scratch[: target.numel()])
