"""Matrices held as small integers, in the layout that the native kernels read.

    weight[o][order[k]] = scale[o][g] * (code[o][k] - zero) + min[o][g],    g = k / group
    scale[o][g] = scales[o][g / superblock] * scale_codes[o][g]
    min[o][g] = mins[o][g / superblock] * min_codes[o][g]

What a form does not need is None: a symmetric one has no mins, one with plain float16 scales no
codes of scales (all are 1, and a super-block is one group), one whose columns lie as in the model
no order. So the usual schemes are cases of one:

- absmax int8: ``zero`` 128. Whole rows (per-channel): a super-block is the row.
- 4 bits with zero points (GPTQ, AWQ): mins are -scales, ``min_codes`` the zero points.
- a codebook of 16 bytes (IQ4_NL, MXFP4): a code is ``codebook[nibble]``, ``zero`` 128.
- a codebook of 16 floats (NF4 of QLoRA, number by number as bitsandbytes has it): no zero, and
  scales that are quantized in turn as `nf4` says. Products of bytes take it `in_bytes`.
- double quantization in the K types of GGUF: int8 codes of the scales and mins.
- act-order (``g_idx`` of GPTQ): ``order``, the column of the model that column k holds.
- int8 in 4 bits (`progressive`): a code is ``slope * nibble + start`` of the line of its half of
  the group, ``zero`` 128.

Outputs are cut into panels of 16, inputs into groups; both are padded. A panel's group holds, in
steps of 64 bytes, 16 outputs by 4 inputs; with 4 bits a byte of step s has in its low half what
step s of the 8-bit layout has there, in its high half what step s + group / 8 has. A ``paired``
matrix (gate and up of a gated MLP) alternates panels of its two halves. `pack` and `unpack` go
to that layout and back. `QuantizedLinear` and `QuantizedEmbedding` stand for the float modules of
`layers`; whoever does not know them reads ``weight``, which is dequantized at each access.

`product` multiplies with a matrix without holding its floats, forwards and backwards.

Not covered: where codes come from (`quantize`, `formats.gguf.matrices`), native products.

Legend: P panels, G groups of a row, S super-blocks of a row, g inputs of a group.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.core import FormatError
from lmstack.model.layers import Embedding, Linear
from lmstack.model.quant.nf4 import dequantized_scales, nf4_scales

__all__ = [
    "BUFFERS",
    "FACTS",
    "GROUPS",
    "PANEL",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedMatrix",
    "buffer_shapes",
    "float_state",
    "has_quantized",
    "held_weights",
    "pack",
    "product",
    "row_tiles",
    "rows_of",
    "unpack",
]

PANEL = 16
STEP = 64
GROUPS = (16, 32, 64, 128, 192, 256)
# The tensors of a matrix, those with the widest alignment first, and its numbers: files, modules
# and native programs hold a matrix by these names.
BUFFERS = (
    "codes", "lines", "scales", "mins", "scale_codes", "min_codes", "codebook", "order",
    "row_factors", "col_factors",
)  # fmt: skip
FACTS = ("rows", "cols", "group", "bits", "zero", "paired", "superblock")
_ROWS = 4096  # that are floats at a time in a product


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """``codes`` (P, G, steps, 64) uint8; ``scales`` and ``mins`` (P, S, 16) float16, or ``scales``
    (`nf4_scales`,) float32 where the codebook is floats;
    ``scale_codes`` and ``min_codes`` (P, G, 16) int8; ``lines`` (P, G, 64) uint8: 16 slopes of the
    first half of the group, 16 of the second, and two starts of each output; ``codebook`` (16,)
    uint8 or float32; ``order`` (cols,) int32. ``superblock``: groups that share a scale. ``rows``
    and ``cols`` are the real ones. ``row_factors`` (rows,) and ``col_factors`` (cols,) float32, in
    the order of the model: what the model's own weight was multiplied by before it was rounded
    (SmoothQuant), which an adapter of that model has to be as well."""

    codes: Tensor
    scales: Tensor
    mins: Tensor | None
    rows: int
    cols: int
    group: int
    bits: int
    zero: int
    paired: bool
    superblock: int = 1
    scale_codes: Tensor | None = None
    min_codes: Tensor | None = None
    codebook: Tensor | None = None
    order: Tensor | None = None
    row_factors: Tensor | None = None
    col_factors: Tensor | None = None
    lines: Tensor | None = None

    def __post_init__(self) -> None:
        codes, scales = buffer_shapes(
            self.rows, self.cols, self.group, self.bits, self.superblock, paired=self.paired
        )
        each = (*codes[:2], PANEL)
        expected = {
            "codes": (torch.uint8, codes),
            **dict.fromkeys(("scales", "mins"), (torch.float16, scales)),
            **dict.fromkeys(("scale_codes", "min_codes"), (torch.int8, each)),
            "lines": (torch.uint8, (*codes[:2], STEP)),
            "codebook": (torch.float32 if self.in_floats else torch.uint8, (16,)),
            "order": (torch.int32, (self.cols,)),
            "row_factors": (torch.float32, (self.rows,)),
            "col_factors": (torch.float32, (self.cols,)),
        }
        if self.in_floats:
            count = nf4_scales(self.rows, codes[1])
            expected["scales"] = (torch.float32, (count,))
        for name, tensor in self.buffers().items():
            found = (tensor.dtype, tuple(tensor.shape))
            if found != expected[name]:
                raise FormatError(f"a quantized matrix holds {name} {found}, not {expected[name]}")
        bytes_ = self.bits == 8 or self.codebook is not None or self.lines is not None
        middle = 128 if bytes_ else 8
        zero = middle if self.mins is None and not self.in_floats else 0
        if self.zero != zero:
            raise FormatError(f"a quantized matrix has zero {self.zero}, and its form {zero}")
        if self.codebook is not None and (self.bits == 8 or self.mins is not None):
            raise FormatError(
                f"a matrix of {self.bits} bits has a codebook, which is for 4 bits without mins"
            )
        if self.in_floats and (self.scale_codes is None or self.order is not None):
            raise FormatError(
                "a matrix with a codebook of floats has an order of columns or no codes of scales"
            )
        if self.min_codes is not None and self.mins is None:
            raise FormatError("a quantized matrix has codes of mins, and no mins")
        if self.order is not None and not _is_permutation(self.order):
            raise FormatError(
                f"the order of a quantized matrix is not a permutation of its {self.cols} columns"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def in_floats(self) -> bool:
        """Whether its codebook is floats."""
        return self.codebook is not None and self.codebook.is_floating_point()

    @property
    def nbytes(self) -> int:
        """Of what a product reads."""
        return sum(t.nbytes for name, t in self.buffers().items() if "factors" not in name)

    def buffers(self) -> dict[str, Tensor]:
        """The tensors by name, without those that there are none of."""
        found = {name: getattr(self, name) for name in BUFFERS}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def dequantized(self) -> Tensor:
        """(rows, cols) float32."""
        return self._weights(*unpack(self))

    def looked_up(self, ids: Tensor) -> Tensor:
        """Rows ``ids`` (...), dequantized, (..., cols)."""
        flat = ids.reshape(-1)
        panel, lane = self.places(flat)
        P, G, steps, _ = self.codes.shape
        codes = _spread(self.codes.view(P, G, steps, PANEL, 4)[panel, :, :, lane], 2, self.bits)
        if self.lines is not None:
            codes = _on_lines(codes, _by_output(self.lines)[panel, lane])
        codes = codes.reshape(len(flat), -1)
        scales, mins = self._scales_and_mins(lambda values: values[panel, :, lane], flat)
        return self._weights(codes, scales, mins).view(*ids.shape, self.cols)

    def _scales_and_mins(
        self, pick: Callable[[Tensor], Tensor], rows: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Of ``rows`` (n,), which ``pick`` takes from (P, S, 16) to (n, S): of each of their
        groups, (n, G), float16 where they have no codes, else float32, in which products are
        exact."""
        if self.in_floats:
            assert self.scale_codes is not None
            return dequantized_scales(self.scales, pick(self.scale_codes), rows), None

        def of_groups(shared: Tensor, codes: Tensor | None) -> Tensor:
            values = pick(shared)
            if self.superblock > 1:
                values = values.repeat_interleave(self.superblock, 1)[:, : self.codes.shape[1]]
            return values if codes is None else values.float() * pick(codes)

        mins = None if self.mins is None else of_groups(self.mins, self.min_codes)
        return of_groups(self.scales, self.scale_codes), mins

    def in_bytes(self) -> QuantizedMatrix:
        """What products of bytes multiply with: where the codebook is floats, its numbers times
        127 rounded to bytes, and a float16 scale for each group; the codes are the same memory.
        Any other matrix is that already."""
        if not self.in_floats:
            return self
        assert self.codebook is not None
        _, scales, _ = unpack(self)
        return dataclasses.replace(
            self,
            scales=by_panel(scales / 127, torch.float16, paired=self.paired),
            scale_codes=None,
            codebook=((self.codebook * 127).round() + 128).to(torch.uint8),
            zero=128,
        )

    def _weights(self, codes: Tensor, scales: Tensor, mins: Tensor | None) -> Tensor:
        """(n, G * g) codes to (n, cols) float32, each step rounded as in ggml: the product, then
        the sum."""
        if self.codebook is not None:
            codes = self.codebook[codes.int()]
        weights = codes.float().view(len(codes), -1, self.group)
        weights = weights.sub_(self.zero).mul_(scales.float()[..., None])
        if mins is not None:
            weights.add_(mins.float()[..., None])
        weights = weights.flatten(1)[:, : self.cols]
        if self.order is None:
            return weights
        return torch.empty_like(weights).index_copy_(1, self.order.long(), weights)

    def between(self, first: int, last: int) -> QuantizedMatrix:
        """Rows ``first`` to ``last`` of one that is not paired and whose codebook is not floats, in
        the same memory; ``first`` is that of a panel."""
        panels = slice(first // PANEL, -(-last // PANEL))
        by_panel = ("codes", "scales", "mins", "scale_codes", "min_codes", "lines")
        parts = {name: t[panels] for name, t in self.buffers().items() if name in by_panel}
        if self.row_factors is not None:
            parts["row_factors"] = self.row_factors[first:last]
        return dataclasses.replace(self, rows=last - first, **parts)  # type: ignore[arg-type]

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Panel of each row, and its place there."""
        if not self.paired:
            return rows // PANEL, rows % PANEL
        half = self.rows // 2
        inner = rows % half
        return inner // PANEL * 2 + rows // half, inner % PANEL


def _is_permutation(order: Tensor) -> bool:
    return torch.equal(order.sort().values, torch.arange(len(order)).to(order))


def buffer_shapes(
    rows: int, cols: int, group: int, bits: int, superblock: int = 1, *, paired: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the codes and the scales of such a matrix."""
    groups = -(-cols // group) if group > 0 else 0
    right = bits in (4, 8) and group in GROUPS and 1 <= superblock <= max(groups, 1)
    if not right or rows < 1 or cols < 1 or (paired and rows % 2):
        raise FormatError(
            f"no kernel multiplies a matrix of {rows} by {cols} in"
            f" {bits} bits in groups of {group}, {superblock} of which share a scale",
            hint=f"use 4 or 8 bits and groups of {', '.join(map(str, GROUPS))}",
        )
    panels = 2 * -(-rows // 2 // PANEL) if paired else -(-rows // PANEL)
    blocks = -(-groups // superblock)
    return (panels, groups, group * bits // 32, STEP), (panels, blocks, PANEL)


def pack(
    codes: Tensor,
    scales: Tensor,
    mins: Tensor | None,
    *,
    bits: int,
    group: int,
    zero: int,
    paired: bool = False,
    superblock: int = 1,
    scale_codes: Tensor | None = None,
    min_codes: Tensor | None = None,
    codebook: Tensor | None = None,
    order: Tensor | None = None,
    slopes: Tensor | None = None,
    starts: Tensor | None = None,
) -> QuantizedMatrix:
    """``codes`` (rows, cols) uint8 below 2 ** bits, ``scales`` and ``mins`` (rows, S), their codes
    (rows, G); ``scales`` of one dimension are those of a codebook of floats, as they are held.
    Column k of all that is column ``order[k]`` of the model's matrix. ``slopes`` and ``starts``
    (rows, 2 G) uint8: of the line of each half of a group."""
    rows, cols = codes.shape
    shape, _ = buffer_shapes(rows, cols, group, bits, superblock, paired=paired)
    P, G = shape[:2]
    fill = zero if codebook is None and slopes is None else 0
    codes = _panelled(F.pad(codes, (0, G * group - cols), value=fill), paired, fill)
    steps = codes.view(P, PANEL, G, group // 4, 4).permute(0, 2, 3, 1, 4)
    steps = steps.reshape(P, G, group // 4, STEP)
    if bits == 4:
        low, high = steps.chunk(2, dim=2)
        steps = low | (high << 4)
    lines = None
    if slopes is not None and starts is not None:
        rises = _panelled(slopes, paired, 0).view(P, PANEL, G, 2).permute(0, 2, 3, 1)
        begins = _panelled(starts, paired, 128).view(P, PANEL, G, 2).transpose(1, 2)
        lines = torch.cat((rises.flatten(2), begins.flatten(2)), dim=2).contiguous()

    def laid_out(values: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        return None if values is None else by_panel(values, dtype, paired=paired)

    half, byte = partial(laid_out, dtype=torch.float16), partial(laid_out, dtype=torch.int8)
    of_groups = scales if scales.dim() == 1 else by_panel(scales, torch.float16, paired=paired)
    return QuantizedMatrix(
        steps.contiguous(), of_groups, half(mins),
        rows, cols, group, bits, zero, paired, superblock,
        byte(scale_codes), byte(min_codes), codebook, order, lines=lines,
    )  # fmt: skip


def by_panel(values: Tensor, dtype: torch.dtype, *, paired: bool) -> Tensor:
    """(rows, n) to (P, n, 16) of ``dtype``, 0 in the padding."""
    return _panelled(values.to(dtype), paired, 0).transpose(1, 2).contiguous()


def unpack(matrix: QuantizedMatrix) -> tuple[Tensor, Tensor, Tensor | None]:
    """Codes (rows, G * g), the columns padded to whole groups, and the scale and min of each
    group, (rows, G): what `pack` was given where a group is a super-block; of codes on lines those
    of 8 bits."""
    P, G, steps, _ = matrix.codes.shape
    codes = matrix.codes.view(P, G, steps, PANEL, 4).permute(0, 3, 1, 2, 4).flatten(0, 1)
    codes = _spread(codes, 2, matrix.bits)
    if matrix.lines is not None:
        codes = _on_lines(codes, _by_output(matrix.lines).flatten(0, 1))
    codes = codes.reshape(P, PANEL, G * matrix.group)

    def by_row(values: Tensor) -> Tensor:
        return _unpanelled(values.transpose(1, 2), matrix.rows, matrix.paired)

    rows = torch.arange(matrix.rows, device=matrix.codes.device)
    scales, mins = matrix._scales_and_mins(by_row, rows)
    return _unpanelled(codes, matrix.rows, matrix.paired), scales, mins


def _panelled(values: Tensor, paired: bool, fill: int) -> Tensor:
    """(rows, n) to (P, 16, n), padded by ``fill``."""
    halves = values.chunk(2) if paired else (values,)
    padding = (0, 0, 0, -len(halves[0]) % PANEL)
    panels = [F.pad(half, padding, value=fill).view(-1, PANEL, values.shape[1]) for half in halves]
    return torch.stack(panels, dim=1).flatten(0, 1)


def _unpanelled(panels: Tensor, rows: int, paired: bool) -> Tensor:
    """(P, 16, n) to (rows, n)."""
    if not paired:
        return panels.flatten(0, 1)[:rows]
    halves = [panels[side::2].flatten(0, 1)[: rows // 2] for side in (0, 1)]
    return torch.cat(halves)


def _spread(steps: Tensor, dim: int, bits: int) -> Tensor:
    """Two codes a byte to one: those of the low halves first along ``dim``."""
    return steps if bits == 8 else torch.cat((steps & 15, steps >> 4), dim=dim)


def _by_output(lines: Tensor) -> Tensor:
    """(P, 16, G, 4): of each output slopes and starts of both halves."""
    P, G, _ = lines.shape
    slopes = lines[..., : 2 * PANEL].view(P, G, 2, PANEL).permute(0, 3, 1, 2)
    starts = lines[..., 2 * PANEL :].view(P, G, PANEL, 2).transpose(1, 2)
    return torch.cat((slopes, starts), dim=-1)


def _on_lines(codes: Tensor, lines: Tensor) -> Tensor:
    """(n, G, steps, 4) nibbles, and slopes and starts (n, G, 4), to codes of 8 bits."""
    halves = codes.view(*codes.shape[:2], 2, -1, 4)
    slopes, starts = lines[..., None, None].chunk(2, dim=2)
    return (halves * slopes + starts).flatten(2, 3)


def rows_of(linear: Linear | Embedding, start: int, stop: int) -> Tensor:
    """Rows ``start`` to ``stop`` of a weight, dequantized where it is quantized."""
    if isinstance(linear, QuantizedLinear | QuantizedEmbedding):
        return linear.matrix.looked_up(torch.arange(start, stop, device=linear.codes.device))
    return linear.weight[start:stop]


class _Held(nn.Module):
    """A matrix as buffers of a module, which `nn.Module.to` moves but never converts."""

    codes: Tensor
    lines: Tensor | None
    mins: Tensor | None
    row_factors: Tensor | None
    col_factors: Tensor | None

    def _hold(self, matrix: QuantizedMatrix) -> None:
        for name in BUFFERS:
            self.register_buffer(name, getattr(matrix, name))
        self.rows, self.cols, self.group = matrix.rows, matrix.cols, matrix.group
        self.bits, self.zero, self.paired = matrix.bits, matrix.zero, matrix.paired
        self.superblock = matrix.superblock

    @property
    def matrix(self) -> QuantizedMatrix:
        return QuantizedMatrix(**{name: getattr(self, name) for name in (*BUFFERS, *FACTS)})

    @property
    def weight(self) -> Tensor:
        """(rows, cols) float32, made at each access."""
        return self.matrix.dequantized()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Float16 scales are part of the form: a change of dtype is for the other weights."""
        held = {name: getattr(self, name) for name in BUFFERS[1:]}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, tensor in held.items():
            setattr(self, name, None if tensor is None else tensor.to(self.codes.device))
        return self

    def extra_repr(self) -> str:
        kind = "min" if self.mins is not None else f"zero {self.zero}"
        return f"{self.cols} -> {self.rows}, {self.bits} bits in groups of {self.group}, {kind}"


class QuantizedLinear(_Held, Linear):  # type: ignore[override]  # weight is derived
    """`Linear` whose matrix is quantized; ``bias`` (rows,) float or None."""

    def __init__(self, matrix: QuantizedMatrix, bias: Tensor | None = None) -> None:
        nn.Module.__init__(self)
        self._hold(matrix)
        if bias is not None and not isinstance(bias, nn.Parameter):
            bias = nn.Parameter(bias, requires_grad=False)
        self.bias = bias


class QuantizedEmbedding(_Held, Embedding):  # type: ignore[override]  # weight is derived
    """`Embedding` whose table is quantized; as a `Linear` it serves as the tied output layer."""

    def __init__(self, matrix: QuantizedMatrix) -> None:
        nn.Module.__init__(self)
        self._hold(matrix)
        self.bias = None

    def looked_up(self, ids: Tensor) -> Tensor:
        """Rows ``ids`` (...) alone, (..., cols) float32."""
        return self.matrix.looked_up(ids)


class _Product(torch.autograd.Function):
    """x W^T + b of a frozen W, dequantized a tile of rows at a time, in both directions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: QuantizedMatrix, bias: Tensor | None) -> Tensor:
        ctx.matrix = matrix
        tiles = row_tiles(matrix, x.dtype)
        parts = [
            F.linear(x, W, None if bias is None else bias[first : first + len(W)])
            for first, W in tiles
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        into = torch.zeros(*grad.shape[:-1], ctx.matrix.cols, dtype=grad.dtype, device=grad.device)
        for first, W in row_tiles(ctx.matrix, grad.dtype):
            into += grad[..., first : first + len(W)] @ W
        wanted = ctx.needs_input_grad
        bias = grad.flatten(0, -2).sum(0) if wanted[2] else None
        return (into if wanted[0] else None), None, bias


def row_tiles(matrix: QuantizedMatrix, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Its rows as floats, each tile with the number of its first."""
    if matrix.rows <= _ROWS:
        yield 0, matrix.dequantized().to(dtype)  # faster than row by row
        return
    for first in range(0, matrix.rows, _ROWS):
        last = min(first + _ROWS, matrix.rows)
        if matrix.paired or matrix.in_floats:
            rows = torch.arange(first, last, device=matrix.codes.device)
            yield first, matrix.looked_up(rows).to(dtype)
        else:
            yield first, matrix.between(first, last).dequantized().to(dtype)


def product(x: Tensor, linear: QuantizedLinear | QuantizedEmbedding) -> Tensor:
    """x (..., in) through a quantized layer, (..., out). Gradients reach ``x`` and the bias; the
    matrix is frozen, and no more than 4,096 of its rows are ever floats at once."""
    out: Tensor = _Product.apply(x, linear.matrix, linear.bias)  # type: ignore[no-untyped-call]
    return out


def has_quantized(module: nn.Module) -> bool:
    """Whether any matrix of ``module`` is held as small integers."""
    return any(isinstance(each, _Held) for each in module.modules())


def float_state(module: nn.Module) -> dict[str, Tensor]:
    """The state of ``module`` with every quantized matrix dequantized, as its float kin has it."""
    held = held_weights(module)
    return {k: w if isinstance(w, Tensor) else w.dequantized() for k, w in held.items()}


def held_weights(module: nn.Module) -> dict[str, Tensor | QuantizedMatrix]:
    """The weights of ``module`` as they are held, matrices under the names of their float kin."""
    state: dict[str, Tensor | QuantizedMatrix] = {}
    state |= {key: value.detach() for key, value in module.state_dict().items()}
    for path, child in module.named_modules():
        if isinstance(child, QuantizedLinear | QuantizedEmbedding):
            start = f"{path}." if path else ""
            for name in BUFFERS:
                state.pop(start + name, None)
            state[f"{start}weight"] = child.matrix
    return state
