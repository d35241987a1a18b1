"""Float matrices to small integers: int8 by absmax, q4 by least squares, NF4 by either.

The scale of a group is rounded before the codes are chosen, so what is stored is what they were
fitted to. ``per_channel``: one scale for each row; activations keep groups of their own. Not
covered: calibration by activations (`smoothquant`, `importance`), and the layout (`matrix`).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.core import UnsupportedError
from lmstack.model.config import TransformerConfig
from lmstack.model.quant.matrix import PANEL, QuantizedMatrix, buffer_shapes, pack
from lmstack.model.quant.nf4 import NF4, double_quantized, middles, nf4_scales
from lmstack.model.quant.recipes import Form
from lmstack.model.quant.smoothquant import may_smooth

__all__ = [
    "form_bytes",
    "int8_codes",
    "int8_group",
    "int8_narrow",
    "inverse",
    "nf4_key",
    "quantize_int8",
    "quantize_nf4",
    "quantize_q4",
    "refuse_infinite",
    "rounded_scales",
    "scales_for",
]

_Q4_GROUP, _NF4_GROUP = 32, 64
# Weights worked on at a time: temporaries of q4 are a dozen times as many.
_CHUNK = 1 << 19
# Scaling a group costs as much as some 8 more inputs.
_WIDE = (256, 192, 128)
_NARROW = 128
# Four codes that are rounded up add up to two more.
_ROOM = 127 / 125.5
# Upper ends of the codes that are tried for a group's first fit, in steps of its whole range.
_TRIES = (14.0, 14.5, 15.0, 15.5, 16.0, 16.5)
_ROUNDS = 2
_NF4_TRIES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 1.05)
_EQUAL = 1e-9  # more than rounding makes of codes that are the same


def quantize_int8(
    weight: Tensor,
    group: int = 64,
    *,
    paired: bool = False,
    narrow: bool = False,
    per_channel: bool = False,
) -> QuantizedMatrix:
    """``weight`` (rows, cols): code - 128 = round(w / scale), scale = max|w| / 127 of each group.

    Symmetric: the codes run from 1 to 255. ``narrow``: of inputs i, i + 1, i + 4 and i + 5 (i
    even, of each eight) the positive codes - 128 add up to at most 128, and the negative ones to
    -128, by a larger scale where it takes one. Their products with unsigned bytes then fit 16 bits
    together, which processors that have no dot products of bytes multiply 1.6 times as fast."""
    shared = -(-weight.shape[1] // group) if per_channel else 1
    codes, scales = int8_codes(weight, shared * group, narrow)
    return pack(
        codes, scales, None, bits=8, group=group, zero=128, paired=paired, superblock=shared
    )


def int8_group(config: TransformerConfig, key: str, cols: int) -> int:
    """Inputs of a group of the matrix ``key`` in ``int8``: the most that fill rows of ``cols``
    without padding, up to 256, where activations have no outliers: in BERT's layers, and after a
    norm that SmoothQuant has changed. The rest is 64: tables and heads, whose errors nothing
    dampens, attention's output, which is not smoothed, and ``down``, whose activations vary most
    even then. Narrow codes have larger scales, which groups of 128 make up for."""
    if int8_narrow(config, key):
        return 64 if cols % _NARROW else _NARROW
    uneven = key.endswith(("attention.out.weight", "mlp.down.weight"))
    even = "blocks." in key and may_smooth(config) and not uneven
    return next((group for group in _WIDE if even and cols % group == 0), 64)


def int8_narrow(config: TransformerConfig, key: str) -> bool:
    """Whether the codes of the matrix ``key`` are narrow in ``int8``: in BERT's layers, where it
    was measured that nothing falls by it."""
    return "blocks." in key and config.norm_place == "post"


def nf4_key(key: str) -> bool:
    """Whether the matrix ``key`` is NF4 in ``nf4``: as in QLoRA, tables and heads are not."""
    return "blocks." in key


def form_bytes(
    form: Form, config: TransformerConfig, key: str, rows: int, cols: int, *, paired: bool
) -> int:
    """What the matrix ``key`` takes in ``form``, without making it."""
    if form == "int8" or (form == "nf4" and not nf4_key(key)):
        codes, scales = buffer_shapes(rows, cols, int8_group(config, key, cols), 8, paired=paired)
        return math.prod(codes) + 2 * math.prod(scales)
    if form == "q4":
        codes, scales = buffer_shapes(rows, cols, _Q4_GROUP, 4, paired=paired)
        return math.prod(codes) + 4 * math.prod(scales)
    codes, _ = buffer_shapes(rows, cols, _NF4_GROUP, 4, paired=paired)
    scale_codes = codes[0] * codes[1] * PANEL
    count = nf4_scales(rows, codes[1])
    return math.prod(codes) + scale_codes + 4 * count + NF4.nbytes


def int8_codes(weight: Tensor, group: int, narrow: bool = False) -> tuple[Tensor, Tensor]:
    """Codes (rows, cols) and scales (rows, G) of `quantize_int8`."""
    groups = _grouped(weight, group)
    largest = groups.abs().amax(-1)
    if narrow:
        fours = groups.view(*groups.shape[:-1], -1, 2, 2, 2)
        for signed in (fours, -fours):
            together = signed.clamp(min=0).sum((-3, -1)).amax((-2, -1))
            largest = torch.maximum(largest, together * _ROOM)
    scales = scales_for(largest)
    codes = (groups * inverse(scales)[..., None]).round_().clamp_(-127, 127).add_(128)
    return codes.to(torch.uint8).flatten(1)[:, : weight.shape[1]], scales


def quantize_q4(
    weight: Tensor,
    group: int = _Q4_GROUP,
    *,
    paired: bool = False,
    per_channel: bool = False,
    importance: Tensor | None = None,
) -> QuantizedMatrix:
    """``weight`` (rows, cols): codes from 0 to 15, with the scale and min of each group that
    leave the least squared error among several fits. ``importance`` (cols,), positive: what the
    square of an error in each column counts; all the same unless given."""
    shared = -(-weight.shape[1] // group) if per_channel else 1
    groups = _grouped(weight, shared * group)
    counts = _counts(groups, weight.shape[1], importance)
    fitted = [_fitted(part, counts) for part in _chunks(groups)]
    codes, scales, mins = (torch.cat(found) for found in zip(*fitted, strict=True))
    return pack(
        codes.flatten(1)[:, : weight.shape[1]],
        scales,
        mins,
        bits=4,
        group=group,
        zero=0,
        paired=paired,
        superblock=shared,
    )


def quantize_nf4(
    weight: Tensor,
    group: int = _NF4_GROUP,
    *,
    paired: bool = False,
    importance: Tensor | None = None,
) -> QuantizedMatrix:
    """``weight`` (rows, cols) in the `NF4` of QLoRA with double quantization: bit by bit what
    bitsandbytes' ``quantize_4bit(weight, compress_statistics=True)`` gives where rows are whole
    groups (its groups run on from row to row).

    ``importance`` (cols,) as in `quantize_q4`: groups are scaled by the share of max|w| that leaves
    the least squared error instead of by max|w|. The format is the same."""
    groups = _grouped(weight, group)
    largest = groups.abs().amax(-1)
    refuse_infinite(scales_for(largest))
    if importance is not None:
        counts = _counts(groups, weight.shape[1], importance)
        largest = torch.cat([_nf4_largest(part, counts) for part in _chunks(groups)])
    scale_codes, scales = double_quantized(largest)
    return pack(
        _nf4_codes(groups, largest).to(torch.uint8).flatten(1)[:, : weight.shape[1]],
        scales,
        None,
        bits=4,
        group=group,
        zero=0,
        paired=paired,
        scale_codes=scale_codes,
        codebook=NF4,
    )


def _nf4_codes(groups: Tensor, largest: Tensor) -> Tensor:
    """The nearest of the codebook for (n, G, g), where ``largest`` (n, G) is 1."""
    scaled = (groups * inverse(largest)[..., None]).clamp(-1, 1)
    return torch.bucketize(scaled, middles(NF4), out_int32=True)


def _nf4_largest(groups: Tensor, counts: Tensor) -> Tensor:
    """(n, G): what the ends of the codebook are best to stand for in each group."""
    most = groups.abs().amax(-1)
    best, least = most, torch.full_like(most, torch.inf)
    for share in _NF4_TRIES:
        scales = most * share
        rest = NF4[_nf4_codes(groups, scales)] * scales[..., None] - groups
        error = _sum(rest.square() * counts)
        best = torch.where(error < least, scales, best)
        least = torch.minimum(error, least)
    return best


def _counts(groups: Tensor, cols: int, importance: Tensor | None) -> Tensor:
    """(G, g): how much the square of an error counts, 0 in the padding."""
    counts = torch.ones(cols) if importance is None else importance.float()
    return F.pad(counts, (0, -cols % groups.shape[2])).view(groups.shape[1:])


def _chunks(groups: Tensor) -> tuple[Tensor, ...]:
    return torch.split(groups, max(1, _CHUNK // groups[0].numel()))


def scales_for(largest: Tensor) -> Tensor:
    """float16 scales with which codes up to 127 reach ``largest``, finite."""
    scales = rounded_scales(largest)
    refuse_infinite(scales)
    return scales


def rounded_scales(largest: Tensor) -> Tensor:
    """`scales_for` what is known to be no larger than float16."""
    scales = (largest / 127).half()
    # So near zero that float16 has few digits: the next one up, lest the largest be cut off.
    low = scales.float() * 127.5 < largest
    return torch.where(low, torch.nextafter(scales, torch.full_like(scales, torch.inf)), scales)


def _grouped(weight: Tensor, group: int) -> Tensor:
    """(rows, cols) to (rows, G, g) float32, the last group filled up with its own last weight:
    a zero would widen the range of a group that does not reach it."""
    weight = weight.float()
    missing = -weight.shape[1] % group
    if missing:
        weight = F.pad(weight[None], (0, missing), mode="replicate")[0]
    return weight.view(len(weight), -1, group)


def inverse(scales: Tensor) -> Tensor:
    """1 / scales in float32, 0 for 0."""
    wide = scales.float()
    return torch.where(wide == 0, 0.0, 1 / wide)


def refuse_infinite(scales: Tensor) -> None:
    """`UnsupportedError` where a scale is no finite number."""
    if not bool(scales.isfinite().all()):
        raise UnsupportedError(
            "the weights have values that are not finite, or too large for float16 scales",
            hint="serve this model with weights='float32'",
        )


def _fitted(groups: Tensor, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(n, G, g), whose squared errors count as (G, g) says, to codes (n, G, g) uint8, scales and
    mins (n, G) float16."""
    low, high = groups.aminmax(dim=-1)
    best: tuple[Tensor, Tensor, Tensor] | None = None
    least = torch.full_like(low, torch.inf)
    for tried in _TRIES:
        scale, start = (high - low) / tried, low
        for _ in range(_ROUNDS):
            codes = _codes(groups, scale, start)
            scale, start = _least_squares(groups, codes, counts)
        scale, start = scale.half(), start.half()
        codes = _codes(groups, scale.float(), start.float())
        rest = codes * scale.float()[..., None] + start.float()[..., None] - groups
        error = _sum(rest.square() * counts)
        refuse_infinite(error)
        if best is None:
            best, least = (codes, scale, start), error
            continue
        better = error < least
        least = torch.where(better, error, least)
        best = (
            torch.where(better[..., None], codes, best[0]),
            torch.where(better, scale, best[1]),
            torch.where(better, start, best[2]),
        )
    assert best is not None
    return best[0].to(torch.uint8), best[1], best[2]


def _codes(groups: Tensor, scale: Tensor, start: Tensor) -> Tensor:
    return ((groups - start[..., None]) * inverse(scale)[..., None]).round_().clamp_(0, 15)


def _least_squares(groups: Tensor, codes: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and start of the line through (code, weight) of each group."""
    total = _sum(counts)
    mean_code, mean = (_sum(x * counts) / total for x in (codes, groups))
    centred = codes - mean_code[..., None]
    spread = _sum(centred.square() * counts)
    slope = _sum(centred * counts * groups) / spread
    slope = torch.where(spread <= _EQUAL * total, 0.0, slope)  # all codes are one
    return slope, mean - slope * mean_code


def _sum(x: Tensor) -> Tensor:
    """Over the last dimension, in float64: processors add in orders of their own."""
    return x.sum(-1, dtype=torch.float64).to(x.dtype)
