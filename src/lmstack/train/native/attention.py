"""Attention of sequences of some hundred tokens that lie end to end, forwards and backwards, as a
native op in float32: scores of a sequence and head stay in the cache, and only the log of the sum
of their exponentials is kept for the backward pass (Dao et al., FlashAttention, 2022).

Legend: n queries, m keys of all sequences, T and S of one, Hkv key-value heads, G query heads of
each, hd channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import Structure, c_float, c_int64, c_void_p
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from lmstack.train.native.library import PANEL, call, pointer, threads

__all__ = ["attended", "takes_heads"]


class _Attention(Structure):
    """`attention` of attention.c."""

    _fields_ = (
        *((k, c_int64) for k in ("sequences", "kv_heads", "group", "head_dim", "causal", "parts")),
        *((k, c_int64) for k in ("q_stride", "k_stride", "v_stride")),
        *((k, c_void_p) for k in ("queries", "keys", "q", "k", "v", "out", "sums")),
        *((k, c_void_p) for k in ("grad", "of_q", "of_k", "of_v")),
        ("scale", c_float),
        ("next", c_void_p),
    )


def takes_heads(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether `attended` can be had of heads of this kind."""
    plain = all(x.dtype == torch.float32 and x.device.type == "cpu" for x in (q, k, v))
    return plain and q.shape[-1] == v.shape[-1] and q.shape[-1] % PANEL == 0


def attended(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    *,
    causal: bool,
    scale: float,
) -> Tensor:
    """q (n, Hkv * G, hd) over k and v (m, Hkv, hd) of sequences with so many ``queries`` and
    ``keys``: where causal, the queries are those of a sequence's last tokens."""
    out: Tensor = _Attended.apply(  # type: ignore[no-untyped-call]
        q, k, v, tuple(queries), tuple(keys), causal, scale
    )
    return out


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        queries: tuple[int, ...],
        keys: tuple[int, ...],
        causal: bool,
        scale: float,
    ) -> Tensor:
        q, k, v = (_by_token(x) for x in (q, k, v))
        out, sums = q.new_empty(q.shape), q.new_empty(q.shape[:-1])
        ctx.sizes = queries, keys, causal, scale
        _run("lmt_attention", q, k, v, *ctx.sizes, out=out, sums=sums)
        ctx.save_for_backward(q, k, v, sums)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, sums = ctx.saved_tensors
        grad = grads[0].contiguous()
        found = [x.new_empty(x.shape) for x in (q, k, v)]
        given = dict(zip(("of_q", "of_k", "of_v"), found, strict=True), grad=grad, sums=sums)
        _run("lmt_attention_backwards", q, k, v, *ctx.sizes, **given)
        return *found, None, None, None, None


def _by_token(x: Tensor) -> Tensor:
    """(n, H, hd), the heads of a token side by side."""
    return x if x.stride()[1:] == (x.shape[-1], 1) else x.contiguous()


def _run(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    causal: bool,
    scale: float,
    **tensors: Tensor,
) -> None:
    # What it reads and writes by the sizes of q, k and v.
    sizes = {"of_k": k.shape, "of_v": v.shape, "sums": q.shape[:-1]}
    for key, tensor in tensors.items():
        if tensor.shape != (size := sizes.get(key, q.shape)) or not tensor.is_contiguous():
            raise ValueError(f"{key} is {tuple(tensor.shape)}, not {tuple(size)} in one piece")
    starts = [torch.tensor([0, *accumulate(lengths)]) for lengths in (queries, keys)]
    heads = k.shape[1]
    job = _Attention(
        *(len(queries), heads, q.shape[1] // heads, q.shape[-1], causal, threads()),
        *(x.stride(0) for x in (q, k, v)),
        *map(pointer, (*starts, q, k, v)),
        scale=scale,
        **{key: pointer(tensor) for key, tensor in tensors.items()},
    )
    call(name, job)
