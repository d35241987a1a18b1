"""Products of frozen matrices in 8 bits with the terms of an adapter, as one native pass over rows.

    y = x W^T + b + sum of scale * x' A^T B^T        x': x without what dropout drops
    dx = dy W + sum of dx' A,   dA, dB

The same numbers as `frozen.Int8Matrix` gives, up to the order of adding and to what is dropped:
a row is quantized, multiplied, scaled and added to while it is in the cache, where torch goes
through memory for each of these. For float32 on processors with AVX-512 VNNI, whose AMX tiles, if
it has them, give the same integers sooner (products.c); others have `frozen`. Results do not depend
on the threads, but those of A and B do on their number, as those of torch do.

Legend: N rows, r rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Structure, c_float, c_int64, c_uint32, c_void_p
from typing import Any

import torch
from torch import Tensor

from lmstack.model.lora.layers import LowRank
from lmstack.train.frozen import columns, rounded_linear, through
from lmstack.train.native.library import LANES, PANEL, available, call, pointer, threads

__all__ = [
    "PackedInt8",
    "PackedInt8Gradient",
    "PackedMatrix",
    "takes",
]


class _Term(Structure):
    """`term` of products.c."""

    _fields_ = (
        *((name, c_int64) for name in ("start", "stop", "rank")),
        *((name, c_void_p) for name in ("A", "B", "At", "Bt", "kept", "low", "of_A", "of_B")),
        ("scale", c_float),
    )


class _Job(Structure):
    """`product` of products.c."""

    _fields_ = (
        *((name, c_int64) for name in ("n", "inputs", "outputs")),
        *((name, c_void_p) for name in ("x", "grad", "packed", "scales", "bias", "result")),
        ("terms", POINTER(_Term)),
        *((name, c_int64) for name in ("count", "parts")),
    )


class _Draw(Structure):
    """`draw` of products.c."""

    _fields_ = (
        *(("kept", c_void_p), ("count", c_int64), ("parts", c_int64)),
        *((name, c_uint32) for name in ("seed", "threshold")),
    )


class PackedMatrix:
    """W (out, in) as codes of 8 bits in the order in which they are multiplied, in both directions
    or backwards alone (then W itself is held, too). In float32."""

    forwards: tuple[Tensor, Tensor] | None
    backwards: tuple[Tensor, Tensor]
    weight: Tensor | None

    def product(
        self, x: Tensor, bias: Tensor | None = None, terms: Sequence[LowRank] = ()
    ) -> Tensor:
        """`frozen.Matrix.product`"""
        return through(_Packed, self, x, bias, terms, _kept)


class PackedInt8(PackedMatrix):
    """In 8 bits in both directions."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        del dtype
        self.forwards, self.backwards = _packed(*columns(weight)), _packed(*columns(weight.T))
        self.weight = None


class PackedInt8Gradient(PackedMatrix):
    """In 8 bits backwards alone."""

    def __init__(self, weight: Tensor, dtype: torch.dtype) -> None:
        self.forwards, self.backwards = None, _packed(*columns(weight.T))
        self.weight = weight.detach().to(dtype)


def takes(weight: Tensor, terms: Sequence[LowRank]) -> bool:
    """Whether these products are to be had for a matrix and the terms on its rows."""
    sizes = [*weight.shape, *(end for term in terms for end in (term.start, term.stop))]
    is_on_cpu = weight.device.type == "cpu"
    return is_on_cpu and available() and all(size % PANEL == 0 for size in sizes)


def _packed(codes: Tensor, scales: Tensor) -> tuple[Tensor, Tensor]:
    """(k, n) codes as panels of 32 columns, in each four rows of a column side by side, plus 128;
    and (n,) scales."""
    k, n = codes.shape
    panels = codes.T.reshape(n // PANEL, PANEL, k // 4, 4).permute(0, 2, 1, 3)
    shifted = (panels.to(torch.int16) + 128).to(torch.uint8)
    room = torch.empty(shifted.numel() + 64, dtype=torch.uint8)  # whole cache lines
    start = -room.data_ptr() % 64
    held = room[start : start + shifted.numel()]
    held.view(shifted.shape).copy_(shifted)
    return held, scales.float().contiguous()


def _kept(x: Tensor, rate: float) -> Tensor:
    """A bit for each number of ``x``, in words of 16: not set with probability ``rate``."""
    words = torch.empty(x.numel() // LANES, dtype=torch.int16)
    seed = int(torch.randint(1 << 32, ()))
    call(
        "lmt_draw",
        _Draw(pointer(words), len(words), threads(), seed=seed, threshold=round(rate * (1 << 32))),
    )
    return words


class _Packed(torch.autograd.Function):
    """``rows``: (start, stop, scale) of each term. ``tensors``: A, B and what is kept (or None)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        matrix: PackedMatrix,
        bias: Tensor | None,
        rows: Sequence[tuple[int, int, float]],
        *tensors: Tensor | None,
    ) -> Tensor:
        flat = x.flatten(0, -2).contiguous()
        packed, scales = matrix.forwards or (None, None)
        if matrix.weight is None:
            assert scales is not None
            out = flat.new_empty(len(flat), len(scales))
            wide = None if bias is None else bias.float().contiguous()
        else:
            out = rounded_linear(flat, matrix.weight, bias)
            wide = None
        made, kept, held = [], [], list[Tensor]()  # held: as long as the call needs them
        for (start, stop, scale), (A, B, bits) in zip(rows, _threes(tensors), strict=True):
            assert A is not None
            assert B is not None
            A, B = A.float().contiguous(), B.float().contiguous()
            At, Bt = A.T.contiguous(), B.T.mul(scale).contiguous()
            low = flat.new_empty(len(flat), len(A))
            held += [At, Bt]
            made.append(_term(start, stop, A, B, At=At, Bt=Bt, kept=bits, low=low))
            kept += [A, B, bits, low]
        if matrix.weight is None or made:
            _run(
                "lmt_forwards",
                (len(flat), flat.shape[1], out.shape[1]),
                made,
                x=flat,
                packed=packed,
                scales=scales,
                bias=wide,
                result=out,
            )
        ctx.save_for_backward(*([flat, *kept] if rows else []))
        ctx.matrix, ctx.rows = matrix, rows
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted, shape = ctx.needs_input_grad, grads[0].shape
        grad = grads[0].flatten(0, -2).contiguous()
        packed, scales = ctx.matrix.backwards
        flat, *kept = ctx.saved_tensors or (None,)
        parts = threads()
        made, sums = [], []
        for (start, stop, scale), place in zip(ctx.rows, range(0, len(kept), 4), strict=True):
            A, B, bits, low = kept[place : place + 4]
            of_A, of_B = (factor.new_zeros(parts, *factor.shape) for factor in (A, B))
            sums.append((of_A, of_B, scale))
            made.append(
                _term(start, stop, A, B, kept=bits, low=low, scale=scale, of_A=of_A, of_B=of_B)
            )
        into = grad.new_empty(len(grad), len(scales)) if wanted[0] else None
        if into is not None or made:
            _run(
                "lmt_backwards",
                (len(grad), len(scales), grad.shape[1]),
                made,
                x=flat,
                grad=grad,
                packed=packed,
                scales=scales,
                result=into,
                parts=parts,
            )
        found: list[Tensor | None] = []
        for of_A, of_B, scale in sums:
            found += [of_A.sum(0), of_B.sum(0).mul_(scale), None]
        of_bias = grad.sum(0) if wanted[2] else None
        return None if into is None else into.view(*shape[:-1], -1), None, of_bias, None, *found


def _threes(tensors: Sequence[Tensor | None]) -> list[Sequence[Tensor | None]]:
    return [tensors[place : place + 3] for place in range(0, len(tensors), 3)]


def _term(start: int, stop: int, A: Tensor, B: Tensor, *, scale: float = 0.0, **more: Any) -> _Term:
    pointers = {name: pointer(tensor) for name, tensor in (("A", A), ("B", B), *more.items())}
    return _Term(start=start, stop=stop, rank=len(A), scale=scale, **pointers)


def _run(
    name: str,
    sizes: tuple[int, int, int],
    terms: Sequence[_Term],
    *,
    parts: int | None = None,
    **tensors: Tensor | None,
) -> None:
    """``sizes``: N, in, out."""
    listed = (_Term * len(terms))(*terms)
    pointers = {key: pointer(tensor) for key, tensor in tensors.items()}
    call(name, _Job(*sizes, terms=listed, count=len(terms), parts=parts or threads(), **pointers))
