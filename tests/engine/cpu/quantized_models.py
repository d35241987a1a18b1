"""Tiny models in the forms that native programs run, and what they must give.

`Rounding` is the reference ops with the roundings of lm.h: activations to int8 for each group
before a product, keys and values to what the cache holds. With it the passes of a module give
what its programs give, but for the order of sums, and a code here and there that such a
difference rounds the other way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lmstack.engine.cpu.executor import NativeEncoder, NativeExecutor
from lmstack.engine.executor import CrossSpan, SequenceSpan
from lmstack.model import (
    DenseAttention,
    ForwardContext,
    ReferenceOps,
    Transformer,
    TransformerOutput,
    build_module,
)
from lmstack.model.biases import ScoreBias
from lmstack.model.config import LayerSpec
from lmstack.model.dot_product import scaled_dot_product_attention
from lmstack.model.formats.assembly import matrices_of
from lmstack.model.quant.matrix import QuantizedMatrix
from lmstack.model.quant.progressive import on_lines
from lmstack.model.quant.quantize import quantize_int8, quantize_nf4, quantize_q4

__all__ = [
    "Form",
    "Kv",
    "Rounding",
    "encoded_natively",
    "generated_natively",
    "quantized",
    "writes",
]

Form = Literal["int8", "q4", "nf4", "nf4 in bytes", "act-order", "file8"]
Kv = Literal["bfloat16", "int8"]
GROUPS = (64, 192, 128, 256)
BLOCK = 64  # keys whose weights share a unit in an int8 cache


def quantized(module: Transformer, form: Form) -> Transformer:
    """``module`` with its matrices in ``form``, the rest in float32. Those of int8 take turns
    with all groups that there are, but for tables and heads."""
    matrices = matrices_of(module)

    def made(key: str, value: Tensor) -> QuantizedMatrix:
        if form == "q4":
            return quantize_q4(value, paired=matrices[key])
        if form == "file8":
            return on_lines(quantize_q4(value, paired=matrices[key]))
        if form.startswith("nf4"):
            exact = quantize_nf4(value, paired=matrices[key])
            return exact if form == "nf4" else exact.in_bytes()
        if form == "act-order":  # and one scale for each row
            seed = torch.Generator().manual_seed(value.shape[1])
            order = torch.randperm(value.shape[1], generator=seed)
            rows = quantize_int8(value[:, order], 32, paired=matrices[key], per_channel=True)
            return dataclasses.replace(rows, order=order.int())
        group = GROUPS[list(matrices).index(key) % len(GROUPS)] if "blocks." in key else 64
        return quantize_int8(value, group, paired=matrices[key])

    return build_module(
        module.config,
        {
            key: made(key, value.float()) if key in matrices else value.float()
            for key, value in module.state_dict().items()
        },
    )


def writes(module: Transformer) -> bool:
    """Whether a `NativeExecutor` is for it."""
    config = module.config
    return config.head == "lm" and all(config.layer(i).causal for i in range(config.num_layers))


def rounded_for(x: Tensor, weight: object) -> Tensor:
    """As it is rounded for the matrix of ``weight``: groups are of columns in its order."""
    group, order = getattr(weight, "group", None), getattr(weight, "order", None)
    if group is None or order is None:
        return x if group is None else rounded(x, group)
    return rounded(x[..., order.long()], group)[..., order.argsort()]


def rounded(x: Tensor, group: int) -> Tensor:
    """(..., n) as int8 codes times the scale of each group, as `lm_acts` has it."""
    n = x.shape[-1]
    groups = F.pad(x, (0, -n % group)).unflatten(-1, (-1, group))
    top = groups.abs().amax(-1, keepdim=True)
    inverse = torch.where(top == 0, 0.0, 127.0 / top)
    return ((groups * inverse).round() * (top / 127.0)).flatten(-2)[..., :n]


class Rounding(ReferenceOps):
    def __init__(self, kv: Kv) -> None:
        self._kv = kv

    def linear(self, x: Tensor, weight: object) -> Tensor:
        return super().linear(rounded_for(x, weight), weight)  # type: ignore[arg-type]

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        spec: LayerSpec,
        mask: Tensor | None = None,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        if self._kv == "bfloat16":
            k, v = k.bfloat16().float(), v.bfloat16().float()
            return super().attention(q, k, v, spec, mask, bias)
        q, k = rounded(q, q.shape[-1]), rounded(k, k.shape[-1])
        _, weights = scaled_dot_product_attention(
            *(x.transpose(-3, -2) for x in (q, k, v)),
            mask=mask,
            causal=spec.causal,
            window=spec.window,
            scale=spec.scale,
            softcap=spec.softcap,
            bias=bias,
            return_weights=True,
        )
        return _mixed_in_codes(weights, v)


def rounded_output(module: Transformer, kv: Kv, **values: Tensor) -> TransformerOutput:
    """``module(**values)`` with roundings; an encoder's keys and values are never in a cache."""
    context = ForwardContext(Rounding(kv))
    if module.encoder is None:
        return module(**values, context=context)
    inside = ForwardContext(Rounding("bfloat16"))
    encoded = module.encode(values["input_ids"], values.get("attention_mask"), inside)
    ids = values["decoder_input_ids"]
    cross = module.cross_states(encoded, context)
    attend = DenseAttention(module.config, context.ops, None, cross)
    last = module.hidden(ids, module.positions_of(ids), context.replace(attend=attend))
    logits, _ = module.headed(last, None, context)
    return TransformerOutput(logits, last, encoder_last_hidden_state=encoded)


def _mixed_in_codes(weights: Tensor, v: Tensor) -> Tensor:
    """``weights`` (B, H, T, S) times ``v`` (B, S, Hkv, hd), as codes of a byte in units of the
    largest weight of a block. To (B, T, H, hd)."""
    scales = v.abs().amax(-1, keepdim=True) / 127
    codes = torch.where(scales == 0, 0.0, v / scales).round()
    shared = weights.shape[1] // v.shape[2]
    scales, codes = (x.repeat_interleave(shared, 2).transpose(1, 2) for x in (scales, codes))
    out = torch.zeros(())
    for start in range(0, v.shape[1], BLOCK):
        part = slice(start, start + BLOCK)
        scaled = weights[..., part] * scales[:, :, part, 0][:, :, None]
        unit = scaled.amax(-1, keepdim=True) / 255
        bytes_of = torch.where(unit == 0, 0.0, scaled / unit).round()
        out = out + bytes_of @ codes[:, :, part] * unit
    return out.transpose(1, 2)


def generated_natively(
    module: Transformer,
    ids: Sequence[int],
    kv: Kv,
    *,
    source: Sequence[int] = (),
    chunks: Sequence[int] = (),
    length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Hidden states and logits of ``ids``, computed in ``chunks`` (empty: at once). ``source``:
    what an encoder reads. Blocks lie in an order of their own."""
    executor = NativeExecutor(module, 12, 16, kv)
    table, cross = [9, 2, 7, 4, 5], None
    if source:
        cross = CrossSpan([11, 3, 8], len(source))
        executor.encode([(source, cross.table)])
    parts, start = [], 0
    for count in chunks or (len(ids),):
        end = start + count
        span = SequenceSpan(table, start, end, cross)
        parts.append(executor.hidden(ids[start:end], range(start, end), [span], length))
        start = end
    assert start == len(ids)
    hidden = torch.cat(parts)
    return hidden, executor.logits(hidden)


def encoded_natively(
    module: Transformer, rows: Sequence[Sequence[int]], types: Sequence[int] | None = None
) -> list[Tensor]:
    """Hidden states of each of ``rows``, all computed at once."""
    flat = [token for row in rows for token in row]
    lengths = [len(row) for row in rows]
    return list(NativeEncoder(module).varlen_hidden(flat, lengths, types).split_with_sizes(lengths))
