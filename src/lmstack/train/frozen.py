"""Products with matrices that are not trained: rounded once, multiplied in both directions.

    y = x W^T + b        forwards
    dx = dy W            backwards; nothing is kept for it but W

`RoundedMatrix` holds W in the dtype of the products. `Int8Matrix` multiplies in 8 bits, after
SwitchBack (Wortsman et al., 2023): rows of x and of dy are quantized as they come, each by its own
largest value, and W by the vectors that they meet (outputs forwards, inputs backwards). SwitchBack
has one scale for all of W; these are nearer to it and cost nothing here. `DequantizedMatrix` is
QLoRA's. Not covered: matrices that are trained.

Legend: N tokens.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.model.layers import Embedding, Linear
from lmstack.model.lora.layers import LowRank
from lmstack.model.quant.matrix import QuantizedEmbedding, QuantizedLinear, row_tiles

__all__ = [
    "FrozenMatrices",
    "FrozenMatrix",
    "Int8Gradient",
    "Int8Matrix",
    "columns",
    "is_frozen",
    "rounded_linear",
    "through",
]

# Rows whose sums are turned to floats, or whose floats to codes, while they are in the cache.
_ROWS, _QUANTIZED = 512, 128


class FrozenMatrix(Protocol):
    """W (out, in), held for products of ``dtype``."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None: ...

    def product(
        self, x: Tensor, bias: Tensor | None = None, terms: Sequence[LowRank] = ()
    ) -> Tensor:
        """x (..., in) through W and ``bias``, its rows changed by the LoRA ``terms`` on them,
        (..., out). Gradients reach ``x``, the bias and the factors of the terms."""
        ...


class _ByTorch(ABC):
    """Products with (N, in) and (N, out) of one dtype, which they give."""

    @abstractmethod
    def forwards(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x W^T + b"""

    @abstractmethod
    def backwards(self, grad: Tensor) -> Tensor:
        """dy W"""

    def product(
        self, x: Tensor, bias: Tensor | None = None, terms: Sequence[LowRank] = ()
    ) -> Tensor:
        """`FrozenMatrix.product`"""
        return through(_Product, self, x, bias, terms, _dropped)


class RoundedMatrix(_ByTorch):
    """In ``dtype``, to which the other side is rounded where it has another."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self._weight = weight.detach().to(dtype)

    def forwards(self, x: Tensor, bias: Tensor | None) -> Tensor:
        return rounded_linear(x, self._weight, bias)

    def backwards(self, grad: Tensor) -> Tensor:
        return (grad.to(self._weight.dtype) @ self._weight).to(grad.dtype)


class Int8Matrix(_ByTorch):
    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        del dtype  # that of the inputs
        # The second operands of the products, (in, out) and (out, in), and scales of their columns.
        self._by_output, self._by_input = columns(weight), columns(weight.T)

    def forwards(self, x: Tensor, bias: Tensor | None) -> Tensor:
        out = _product(x, *self._by_output)
        return out if bias is None else out.add_(bias)

    def backwards(self, grad: Tensor) -> Tensor:
        return _product(grad, *self._by_input)


class Int8Gradient(RoundedMatrix):
    """In 8 bits backwards alone."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        super().__init__(weight, dtype)
        self._by_input = columns(weight.T)

    def backwards(self, grad: Tensor) -> Tensor:
        return _product(grad, *self._by_input)


def rounded_linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """x W^T + b, multiplied in the dtype of W, in that of x."""
    out = F.linear(x.to(weight.dtype), weight, None if bias is None else bias.to(weight.dtype))
    return out.to(x.dtype)


def columns(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes (n, N) of the transposed (N, n), and the scale of each column, (N,)."""
    codes, scales = _quantized(rows.detach().float().contiguous())
    return codes.T, scales[:, 0]


def _quantized(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Codes of (N, n) in [-127, 127], and what each row's are multiplied by, (N, 1) float32."""
    # What rows are multiplied by has their own precision, so that nothing is converted twice; in
    # bfloat16 it may be .4 % too large, for which there is room up to 127.
    least, most = (extreme(rows, -1, keepdim=True) for extreme in (torch.amin, torch.amax))
    inverse = 126 / torch.maximum(most, least.neg_()).clamp_(min=1e-30)
    codes = torch.empty_like(rows, dtype=torch.int8)
    for start in range(0, len(rows), _QUANTIZED):
        part = slice(start, start + _QUANTIZED)
        codes[part] = (rows[part] * inverse[part]).round_()
    return codes, inverse.float().reciprocal_()


def _product(x: Tensor, codes: Tensor, scales: Tensor) -> Tensor:
    """x (N, n) by the quantized (n, m), in the dtype of x."""
    rows, scale = _quantized(x)
    out = torch.empty(len(x), codes.shape[1], dtype=x.dtype, device=x.device)
    for start in range(0, len(x), _ROWS):
        part = slice(start, start + _ROWS)
        sums = torch._int_mm(rows[part], codes)
        if x.dtype == torch.float32:
            torch.mul(sums, scale[part], out=out[part]).mul_(scales)
        else:
            out[part] = sums.float().mul_(scale[part]).mul_(scales)
    return out


class DequantizedMatrix(_ByTorch):
    """A matrix that is held as small integers, in the dtype of the other side while it is
    multiplied with."""

    def __init__(self, layer: QuantizedLinear | QuantizedEmbedding) -> None:
        self._matrix = layer.matrix

    def forwards(self, x: Tensor, bias: Tensor | None) -> Tensor:
        parts = [x @ rows.T for _, rows in row_tiles(self._matrix, x.dtype)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return out if bias is None else out.add_(bias)

    def backwards(self, grad: Tensor) -> Tensor:
        into = None
        for first, rows in row_tiles(self._matrix, grad.dtype):
            of_rows = grad[:, first : first + len(rows)]
            into = of_rows @ rows if into is None else into.addmm_(of_rows, rows)
        assert into is not None
        return into


class FrozenMatrices:
    """Those of one run, each made when it is first met and again where its values have changed.
    ``kinds``: of layers, as what they are held; all others in ``dtype``."""

    def __init__(self, dtype: torch.dtype, kinds: Mapping[nn.Module, type[FrozenMatrix]]) -> None:
        self._dtype = dtype
        self._kinds = WeakKeyDictionary(kinds)
        self._held: WeakKeyDictionary[nn.Module, tuple[int, FrozenMatrix]] = WeakKeyDictionary()

    def of(self, layer: Linear | Embedding) -> FrozenMatrix:
        """That of a layer for which `is_frozen`."""
        if isinstance(layer, QuantizedLinear | QuantizedEmbedding):
            return DequantizedMatrix(layer)
        version = layer.weight._version
        held = self._held.get(layer)
        if held is None or held[0] != version:
            made = self._kinds.get(layer, RoundedMatrix)
            held = version, made(layer.weight, self._dtype)
            self._held[layer] = held
        return held[1]


def is_frozen(layer: Linear | Embedding) -> bool:
    """Whether the matrix of ``layer`` is not trained."""
    if isinstance(layer, QuantizedLinear | QuantizedEmbedding):
        return True
    return not layer.weight.requires_grad


def through(
    function: type[torch.autograd.Function],
    matrix: FrozenMatrix,
    x: Tensor,
    bias: Tensor | None,
    terms: Sequence[LowRank],
    drawn: Callable[[Tensor, float], Tensor],
) -> Tensor:
    """``function`` of x, the matrix, the bias, for each term (start, stop, scale), and then of each
    term A, B and what ``drawn`` says of dropout at its rate, or None."""
    rows, tensors = [], []
    for term in terms:
        drops = term.training and term.dropout > 0
        scale = term.scale / (1 - term.dropout) if drops else term.scale
        rows.append((term.start, term.stop, scale))
        tensors += [term.A, term.B, drawn(x, term.dropout) if drops else None]
    out: Tensor = function.apply(x, matrix, bias, rows, *tensors)  # type: ignore[no-untyped-call]
    return out


def _dropped(x: Tensor, rate: float) -> Tensor:
    """Which of (N, in) are dropped: each with probability ``rate``, to 1 in 65,536. Four are drawn
    at once; a draw for each is as slow as a product in 8 bits."""
    count = x.numel()
    draws = torch.empty(-(-count // 4), dtype=torch.int64, device=x.device)
    draws.random_(-(1 << 63), None)
    threshold = round(rate * (1 << 16)) - (1 << 15)
    return (draws.view(torch.int16)[:count] < threshold).view(-1, x.shape[-1])


class _Product(torch.autograd.Function):
    """x W^T + b, and for each of ``rows`` (start, stop, scale) scale * x' A^T B^T more in these
    columns, x' without what is dropped. ``tensors``: A, B and what is dropped (or None) of each."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        matrix: _ByTorch,
        bias: Tensor | None,
        rows: Sequence[tuple[int, int, float]],
        *tensors: Tensor | None,
    ) -> Tensor:
        flat = x.flatten(0, -2)
        out = matrix.forwards(flat, bias)
        kept: list[Tensor | None] = []
        for place, (start, stop, scale) in enumerate(rows):
            A, B, mask = tensors[3 * place : 3 * place + 3]
            assert A is not None
            assert B is not None
            low = F.linear(flat if mask is None else flat.masked_fill(mask, 0), A.to(x.dtype))
            out[:, start:stop].addmm_(low, B.to(x.dtype).T, alpha=scale)
            kept += [A, B, mask, low]
        ctx.save_for_backward(*([x, *kept] if rows else []))
        ctx.matrix, ctx.rows = matrix, rows
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted, shape = ctx.needs_input_grad, grads[0].shape
        grad = grads[0].flatten(0, -2)
        into = ctx.matrix.backwards(grad) if wanted[0] else None
        found: list[Tensor | None] = []
        x, *kept = ctx.saved_tensors or (grad,)
        flat = x.flatten(0, -2)
        for place, (start, stop, scale) in enumerate(ctx.rows):
            A, B, mask, low = kept[4 * place : 4 * place + 4]
            of_out = grad[:, start:stop]
            of_low = (of_out @ B.to(grad.dtype)).mul_(scale)
            seen = flat if mask is None else flat.masked_fill(mask, 0)
            found += [
                (of_low.T @ seen).to(A.dtype),
                (of_out.T @ low).to(B.dtype).mul_(scale),
                None,
            ]
            if into is not None and mask is None:
                into.addmm_(of_low, A.to(grad.dtype))
            elif into is not None:
                into.add_((of_low @ A.to(grad.dtype)).masked_fill_(mask, 0))
        of_bias = grad.sum(0) if wanted[2] else None
        return None if into is None else into.view(*shape[:-1], -1), None, of_bias, None, *found
