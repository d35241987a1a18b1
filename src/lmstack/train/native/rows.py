"""What a layer does to each row by itself, as native ops in float32 with their gradients: one pass
over memory each (rows.c). The same numbers as the reference's up to rounding.

Legend: D columns, F inner columns, both multiples of 16; H heads of hd.
"""

from __future__ import annotations

from ctypes import Structure, c_float, c_int64, c_void_p
from typing import Any

import torch
from torch import Tensor

from lmstack.train.native.library import LANES, call, pointer, threads

__all__ = ["gated", "normed", "rotated", "takes_rotation", "takes_rows"]


class _Rows(Structure):
    """`rows_job` of rows.c."""

    _fields_ = (
        *((name, c_int64) for name in ("n", "width", "parts")),
        *((name, c_void_p) for name in ("x", "grad", "gain", "scale", "out")),
        ("eps", c_float),
    )


class _Rotation(Structure):
    """`rotation` of rows.c."""

    _fields_ = (
        *((name, c_int64) for name in ("n", "heads", "head_dim", "parts", "stride", "table")),
        *((name, c_void_p) for name in ("x", "cos", "sin", "out")),
        ("sign", c_float),
    )


def takes_rows(x: Tensor) -> bool:
    """Whether `normed` and `gated` can be had of ``x``."""
    return x.dtype == torch.float32 and x.device.type == "cpu" and x.shape[-1] % (2 * LANES) == 0


def normed(x: Tensor, gain: Tensor, eps: float) -> Tensor:
    """x (..., D) / sqrt(mean(x^2) + eps) * gain (D,), which gets no gradient."""
    out: Tensor = _RootMeanSquare.apply(x, gain, eps)  # type: ignore[no-untyped-call]
    return out


def gated(gate_up: Tensor) -> Tensor:
    """silu(gate) * up of (..., 2F)."""
    out: Tensor = _SwiGLU.apply(gate_up)  # type: ignore[no-untyped-call]
    return out


def takes_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> bool:
    """Whether `rotated` can be had: each row has its line of the tables, or all have one."""
    hd = x.shape[-1]
    tables = x.dim() > 2 and cos.shape == sin.shape and cos.shape[-1] == hd and cos.shape[-2] == 1
    return (
        (*(each.dtype for each in (x, cos, sin)), x.device.type) == (*(torch.float32,) * 3, "cpu")
        and tables
        and hd % (2 * LANES) == 0
    )


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """`Ops.rotary` of (..., H, hd), whose heads may lie in wider rows."""
    out: Tensor = _Rotary.apply(x, cos, sin)  # type: ignore[no-untyped-call]
    return out


class _RootMeanSquare(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, eps: float) -> Tensor:
        x, gain = x.contiguous(), gain.contiguous()
        out, scale = torch.empty_like(x), x.new_empty(x.shape[:-1])
        _run("lmt_norm", x, eps=eps, x=x, gain=gain, scale=scale, out=out)
        ctx.save_for_backward(x, gain, scale)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, gain, scale = ctx.saved_tensors
        into, grad = torch.empty_like(x), grads[0].contiguous()
        _run("lmt_norm_backwards", x, x=x, grad=grad, gain=gain, scale=scale, out=into)
        return into, None, None


class _SwiGLU(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gate_up: Tensor) -> Tensor:
        gate_up = gate_up.contiguous()
        out = gate_up.new_empty(*gate_up.shape[:-1], gate_up.shape[-1] // 2)
        _run("lmt_gated", out, x=gate_up, out=out)
        ctx.save_for_backward(gate_up)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (gate_up,) = ctx.saved_tensors
        into, grad = torch.empty_like(gate_up), grads[0].contiguous()
        _run("lmt_gated_backwards", grad, x=gate_up, grad=grad, out=into)
        return into


class _Rotary(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(grads[0], cos, sin, -1.0), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, sign: float) -> Tensor:
    shape, (H, hd) = x.shape, x.shape[-2:]
    if x.stride()[-2:] != (hd, 1):
        x = x.contiguous()
    rows = x.flatten(0, -3)
    # A line for each row of the batch, one for all, or to be repeated for each sequence.
    cos, sin = (
        table.contiguous()
        if table.numel() in (hd, len(rows) * hd)
        else table.expand(*shape[:-2], 1, hd).contiguous()
        for table in (cos, sin)
    )
    out = x.new_empty(shape)
    job = _Rotation(
        *(len(rows), H, hd, threads(), rows.stride(0), 0 if cos.numel() == hd else hd),
        *map(pointer, (rows, cos, sin, out)),
        sign,
    )
    call("lmt_rotated", job)
    return out


def _run(name: str, like: Tensor, *, eps: float = 0.0, **tensors: Tensor) -> None:
    """Over the rows of ``like`` (..., width)."""
    width = like.shape[-1]
    pointers = {key: pointer(tensor) for key, tensor in tensors.items()}
    call(name, _Rows(n=like.numel() // width, width=width, parts=threads(), eps=eps, **pointers))
