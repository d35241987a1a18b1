"""Matrices held as small integers, in the layout that the native kernels read.

    weight[o][k] = scale[o][k / group] * (code[o][k] - zero) + min[o][k / group]

Outputs are cut into panels of 16, inputs into groups; both are padded. A panel's group holds, in
steps of 64 bytes, 16 outputs by 4 inputs; with 4 bits a byte of step s has in its low half what
step s of the 8-bit layout has there, in its high half what step s + group / 8 has. A ``paired``
matrix (gate and up of a gated MLP) alternates panels of its two halves. `pack` and `unpack` go
to that layout and back; the modules stand where `layers` has their float kin, and whoever does
not know them reads ``weight``, which is dequantized at each look.

`product` multiplies with one without holding its floats, forwards and backwards.

Not covered: where codes come from (`quantizing`, `gguf_matrices`), native products.

Legend: P panels, G groups of a row, g inputs of a group.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.core import FormatError
from lmstack.model.layers import Embedding, Linear

__all__ = [
    "PANEL",
    "QuantizedEmbedding",
    "QuantizedLinear",
    "QuantizedMatrix",
    "buffer_shapes",
    "float_state",
    "held_weights",
    "pack",
    "product",
    "rows_of",
    "unpack",
]

PANEL = 16
STEP = 64
_ROWS = 4096  # that are floats at a time in a product
_BUFFERS = ("codes", "scales", "mins", "row_factors", "col_factors")
_GROUPS = {4: (16, 32, 64), 8: (16, 32, 64, 128, 192, 256)}


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """``codes`` (P, G, steps, 64) uint8; ``scales`` and ``mins`` (P, G, 16) float16, the latter
    None where all are zero. ``rows`` and ``cols`` are the real ones. ``row_factors`` (rows,) and
    ``col_factors`` (cols,), float32 or None: what the model's own weight was multiplied by before
    it was rounded (`smoothing`), which an adapter of that model has to be as well."""

    codes: Tensor
    scales: Tensor
    mins: Tensor | None
    rows: int
    cols: int
    group: int
    bits: int
    zero: int
    paired: bool
    row_factors: Tensor | None = None
    col_factors: Tensor | None = None

    def __post_init__(self) -> None:
        shapes = buffer_shapes(self.rows, self.cols, self.group, self.bits, paired=self.paired)
        found = (tuple(self.codes.shape), tuple(self.scales.shape))
        mins = self.scales if self.mins is None else self.mins
        kinds = (self.codes.dtype, self.scales.dtype, mins.dtype)
        if found != shapes or mins.shape != self.scales.shape:
            raise FormatError(f"a quantized matrix holds {found}, not {shapes}")
        if kinds != (torch.uint8, torch.float16, torch.float16):
            raise FormatError(f"a quantized matrix holds {kinds}")
        if self.zero != (0 if self.mins is not None else 128 if self.bits == 8 else 8):
            raise FormatError(f"a quantized matrix of {self.bits} bits with zero {self.zero}")
        for factors, count in ((self.row_factors, self.rows), (self.col_factors, self.cols)):
            if factors is not None and factors.shape != (count,):
                raise FormatError(f"{count} lines of a quantized matrix have {factors.shape}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.rows, self.cols

    @property
    def nbytes(self) -> int:
        return self.codes.nbytes + self.scales.nbytes * (1 if self.mins is None else 2)

    def buffers(self) -> dict[str, Tensor]:
        """The tensors by name, without those that there are none of."""
        found = {name: getattr(self, name) for name in _BUFFERS}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def dequantized(self) -> Tensor:
        """(rows, cols) float32."""
        return _weights(*unpack(self), self.group, self.zero)[:, : self.cols]

    def looked_up(self, ids: Tensor) -> Tensor:
        """Rows ``ids`` (...), dequantized, (..., cols)."""
        flat = ids.reshape(-1)
        panel, lane = self.places(flat)
        P, G, steps, _ = self.codes.shape
        found = self.codes.view(P, G, steps, PANEL, 4)[panel, :, :, lane]
        codes = _spread(found, 2, self.bits).reshape(len(flat), -1)
        scales = self.scales[panel, :, lane]
        mins = None if self.mins is None else self.mins[panel, :, lane]
        weights = _weights(codes, scales, mins, self.group, self.zero)
        return weights[:, : self.cols].view(*ids.shape, self.cols)

    def places(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Panel of each row, and its place there."""
        if not self.paired:
            return rows // PANEL, rows % PANEL
        half = self.rows // 2
        inner = rows % half
        return inner // PANEL * 2 + rows // half, inner % PANEL


def buffer_shapes(
    rows: int, cols: int, group: int, bits: int, *, paired: bool
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the codes and the scales of such a matrix."""
    if group not in _GROUPS.get(bits, ()) or rows < 1 or cols < 1 or (paired and rows % 2):
        raise FormatError(
            f"a quantized matrix of {rows} by {cols} ({bits} bits in groups of {group})"
        )
    panels = 2 * -(-rows // 2 // PANEL) if paired else -(-rows // PANEL)
    groups = -(-cols // group)
    return (panels, groups, group * bits // 32, STEP), (panels, groups, PANEL)


def pack(
    codes: Tensor,
    scales: Tensor,
    mins: Tensor | None,
    *,
    bits: int,
    group: int,
    zero: int,
    paired: bool = False,
) -> QuantizedMatrix:
    """``codes`` (rows, cols) uint8 below 2 ** bits, ``scales`` and ``mins`` (rows, G)."""
    rows, cols = codes.shape
    shape, _ = buffer_shapes(rows, cols, group, bits, paired=paired)
    P, G = shape[:2]
    codes = _panelled(F.pad(codes, (0, G * group - cols), value=zero), paired, zero)
    steps = codes.view(P, PANEL, G, group // 4, 4).permute(0, 2, 3, 1, 4)
    steps = steps.reshape(P, G, group // 4, STEP)
    if bits == 4:
        low, high = steps.chunk(2, dim=2)
        steps = low | (high << 4)

    def laid_out(values: Tensor) -> Tensor:
        return _panelled(values.half(), paired, 0).transpose(1, 2).contiguous()

    return QuantizedMatrix(
        steps.contiguous(),
        laid_out(scales),
        None if mins is None else laid_out(mins),
        rows,
        cols,
        group,
        bits,
        zero,
        paired,
    )


def unpack(matrix: QuantizedMatrix) -> tuple[Tensor, Tensor, Tensor | None]:
    """What `pack` was given, its columns padded to whole groups: codes (rows, G * g), scales
    and mins (rows, G)."""
    P, G, steps, _ = matrix.codes.shape
    codes = _spread(matrix.codes.view(P, G, steps, PANEL, 4), 2, matrix.bits)
    codes = codes.permute(0, 3, 1, 2, 4).reshape(P, PANEL, G * matrix.group)

    def by_row(values: Tensor) -> Tensor:
        return _unpanelled(values.transpose(1, 2), matrix.rows, matrix.paired)

    mins = None if matrix.mins is None else by_row(matrix.mins)
    return _unpanelled(codes, matrix.rows, matrix.paired), by_row(matrix.scales), mins


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


def _weights(codes: Tensor, scales: Tensor, mins: Tensor | None, group: int, zero: int) -> Tensor:
    """(n, G * g) codes to float32, each step rounded as in ggml: the product, then the sum."""
    weights = codes.float().view(len(codes), -1, group)
    weights = weights.sub_(zero).mul_(scales.float()[..., None])
    if mins is not None:
        weights.add_(mins.float()[..., None])
    return weights.flatten(1)


def rows_of(linear: Linear | Embedding, start: int, stop: int) -> Tensor:
    """Rows ``start`` to ``stop`` of a weight, dequantized where it is quantized."""
    if isinstance(linear, QuantizedLinear | QuantizedEmbedding):
        return linear.matrix.looked_up(torch.arange(start, stop, device=linear.codes.device))
    return linear.weight[start:stop]


class _Held(nn.Module):
    """A matrix as buffers of a module, which `nn.Module.to` moves but never converts."""

    codes: Tensor
    scales: Tensor
    mins: Tensor | None
    row_factors: Tensor | None
    col_factors: Tensor | None

    def _hold(self, matrix: QuantizedMatrix) -> None:
        for name in _BUFFERS:
            self.register_buffer(name, getattr(matrix, name))
        self.rows, self.cols, self.group = matrix.rows, matrix.cols, matrix.group
        self.bits, self.zero, self.paired = matrix.bits, matrix.zero, matrix.paired

    @property
    def matrix(self) -> QuantizedMatrix:
        return QuantizedMatrix(
            self.codes, self.scales, self.mins,
            self.rows, self.cols, self.group, self.bits, self.zero, self.paired,
            self.row_factors, self.col_factors,
        )  # fmt: skip

    @property
    def weight(self) -> Tensor:
        """(rows, cols) float32, made at each look."""
        return self.matrix.dequantized()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Float16 scales are part of the form: a change of dtype is for the other weights."""
        held = {name: getattr(self, name) for name in _BUFFERS[1:]}
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
        tiles = _row_tiles(matrix, x.dtype)
        parts = [
            F.linear(x, W, None if bias is None else bias[first : first + len(W)])
            for first, W in tiles
        ]
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        into = torch.zeros(*grad.shape[:-1], ctx.matrix.cols, dtype=grad.dtype, device=grad.device)
        for first, W in _row_tiles(ctx.matrix, grad.dtype):
            into += grad[..., first : first + len(W)] @ W
        wanted = ctx.needs_input_grad
        bias = grad.flatten(0, -2).sum(0) if wanted[2] else None
        return (into if wanted[0] else None), None, bias


def _row_tiles(matrix: QuantizedMatrix, dtype: torch.dtype) -> Iterator[tuple[int, Tensor]]:
    """Its rows as floats, each tile with the number of its first."""
    if matrix.rows <= _ROWS:
        yield 0, matrix.dequantized().to(dtype)  # faster than row by row
        return
    for first in range(0, matrix.rows, _ROWS):
        rows = torch.arange(first, min(first + _ROWS, matrix.rows), device=matrix.codes.device)
        yield first, matrix.looked_up(rows).to(dtype)


def product(x: Tensor, linear: QuantizedLinear | QuantizedEmbedding) -> Tensor:
    """x (..., in) through a quantized layer, (..., out). Gradients reach ``x`` and the bias; the
    matrix is frozen, and no more than 4,096 of its rows are ever floats at once."""
    out: Tensor = _Product.apply(x, linear.matrix, linear.bias)  # type: ignore[no-untyped-call]
    return out


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
            for name in _BUFFERS:
                state.pop(start + name, None)
            state[f"{start}weight"] = child.matrix
    return state
