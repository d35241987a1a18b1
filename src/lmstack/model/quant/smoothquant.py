"""SmoothQuant: moves activation outliers into the weights before both are rounded to 8 bits.

A few channels of a decoder are far larger than the rest, and a group of activations that share a
scale keeps few digits of the small ones. What a norm or the "up" of a gated MLP gives may be
divided by any number, channel by channel, when the matrix that reads it is multiplied by it
(Xiao et al. 2023, alpha = 1/2); how large channels are is measured on a calibration text. What a
norm of keys gives may be divided when that of queries is multiplied: both are rounded, a head at a
time, where the KV cache is int8, and channels that RoPE mixes share their factor. Factors are
powers of two, so that no float changes but by its exponent: the model is the same until it is
rounded. Activations are computed in float64, so that machines and numbers of threads, which add in
orders of their own, come to the same factors: a form of a model is one set of numbers everywhere.

Not covered: what other matrices read (attention's output, encoders that norm what they add,
mixtures, encoder-decoders), and the rounding (`quantize`).

Legend: D width, Hq query heads, Hkv key-value heads, hd channels of a head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.model.biases import ScoreBias
from lmstack.model.blocks import Mlp, TransformerBlock
from lmstack.model.config import LayerSpec, TransformerConfig
from lmstack.model.context import ForwardContext
from lmstack.model.layers import Embedding, LayerNorm, Linear, RMSNorm
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.ops import ReferenceOps
from lmstack.model.transformer import Transformer

__all__ = [
    "CalibrationOps",
    "Smoothing",
    "calibration_text",
    "may_smooth",
    "observed",
    "smoothing_of",
]

_TOKENS = 512
_ROWS = 4096


class Smoothing:
    """What tensors of a model are multiplied by, by their names."""

    def __init__(self, factors: Mapping[str, Tensor] = {}, from_one: bool = False) -> None:
        self._factors, self._from_one = factors, from_one

    def __call__(self, key: str, tensor: Tensor) -> Tensor:
        factor = self._factors.get(key)
        if factor is None:
            return tensor
        if self._from_one and key.endswith("norm.weight"):  # it counts from one
            return (tensor + 1) * factor - 1
        return tensor * factor

    def of_matrix(self, key: str) -> tuple[Tensor | None, Tensor | None]:
        """What rows and columns of a matrix are multiplied by, as `QuantizedMatrix` keeps it."""
        factor = self._factors.get(key)
        if factor is None or factor.dim() == 1:
            return None, factor
        # An outer product, of powers of two, so division is exact.
        return factor[:, 0] / factor[0, 0], factor[0].clone()


class CalibrationOps(ReferenceOps):
    """The reference ops in float64, whatever dtype weights have, which record absmax and the sum of
    squares of each channel of the activations that a matrix reads, and absmax of the queries
    (Hq, hd) and keys (Hkv, hd) of each call of attention."""

    def __init__(self) -> None:
        self.largest: dict[Linear | Embedding, Tensor] = {}
        self.squares: dict[nn.Module, Tensor] = {}
        self.attended: list[tuple[Tensor, Tensor]] = []

    def embedding(self, ids: Tensor, table: Embedding) -> Tensor:
        return super().embedding(ids, table).double()

    def norm(self, x: Tensor, norm: RMSNorm | LayerNorm) -> Tensor:
        weight = norm.weight.double()
        if isinstance(norm, LayerNorm):
            bias = None if norm.bias is None else norm.bias.double()
            return F.layer_norm(x, x.shape[-1:], weight, bias, norm.eps)
        return F.rms_norm(x, x.shape[-1:], weight + 1 if norm.from_one else weight, norm.eps)

    def attention(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        spec: LayerSpec,
        mask: Tensor | None = None,
        bias: ScoreBias | None = None,
    ) -> Tensor:
        sizes = [x.abs().amax((0, 1)) for x in (q, k)]
        self.attended.append((sizes[0], sizes[1]))
        return super().attention(q, k, v, spec, mask, bias)

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        if isinstance(weight, LoraLinear):
            return super().linear(x, weight)
        size = x.abs().flatten(0, -2).amax(0)
        before = self.largest.get(weight)
        self.largest[weight] = size if before is None else torch.maximum(before, size)
        squares = x.flatten(0, -2).square().sum(0)
        self.squares[weight] = self.squares.get(weight, 0) + squares
        # Some rows at a time: a large output layer is never in memory in float64.
        parts = [x @ rows.double().T for rows in torch.split(weight.weight, _ROWS)]
        out = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        return out if weight.bias is None else out + weight.bias.double()


def calibration_text() -> str:
    """Prose, talk, code, tables and other languages."""
    text = resources.files("lmstack.model.quant") / "calibration.txt"
    return text.read_text(encoding="utf-8")


def may_smooth(config: TransformerConfig) -> bool:
    """Whether a model with ``config`` has norms or a gated MLP that only one matrix reads."""
    return (
        config.causal
        and config.encoder is None
        and config.norm_place in ("pre", "sandwich")
        and not config.num_experts
    )


@torch.inference_mode()
def observed(module: Transformer, ids: Sequence[int]) -> CalibrationOps:
    """What `CalibrationOps` record when ``module`` reads the first of ``ids``, at least one."""
    ops = CalibrationOps()
    first = list(ids)[: min(_TOKENS, module.config.max_positions)]
    module(torch.tensor([first]), context=ForwardContext(ops), output_hidden_states=False)
    return ops


@torch.inference_mode()
def smoothing_of(module: Transformer, ids: Sequence[int]) -> Smoothing:
    """For ``module``, from its activations at ``ids``, at least one."""
    config, ops = module.config, observed(module, ids)
    factors: dict[str, Tensor] = {}
    blocks = [(n, m) for n, m in module.named_modules() if isinstance(m, TransformerBlock)]
    each = config.num_layers // len(blocks)  # layers that a block is for, one after the other
    for index, (name, block) in enumerate(blocks):
        layers = range(index * each, (index + 1) * each)
        found = {**_of_mlp(block, ops.largest), **_of_attention(block, config, layers, ops)}
        factors.update((f"{name}.{key}", factor) for key, factor in found.items())
    return Smoothing(factors, config.norm == "rms1p")


def _of_mlp(
    block: TransformerBlock, largest: Mapping[Linear | Embedding, Tensor]
) -> dict[str, Tensor]:
    mlp = block.mlp
    assert isinstance(mlp, Mlp)
    if not mlp.gated:
        return _of_norm(block, "mlp_norm", "mlp.up", mlp.up, largest)
    factor = _factor(largest[mlp.down], _sizes(mlp.down.weight))
    rows = torch.cat((torch.ones_like(factor), 1 / factor))
    found = {"mlp.down.weight": factor}
    return found | _of_norm(block, "mlp_norm", "mlp.up", mlp.up, largest, rows)


def _of_attention(
    block: TransformerBlock, config: TransformerConfig, layers: Sequence[int], ops: CalibrationOps
) -> dict[str, Tensor]:
    """``layers``: those that ``block`` is for."""
    attention = block.attention
    found = _of_norm(block, "attention_norm", "attention.qkv", attention.qkv, ops.largest)
    norms = [norm for norm in (attention.q_norm, attention.k_norm) if norm is not None]
    ropes = [config.layer(layer).rope for layer in layers]
    rotated = {0 if rope is None else rope.rotary_dim(config.head_dim) for rope in ropes}
    if not norms or len(rotated) > 1:
        return found
    factors = _of_queries_and_keys(config, [ops.attended[layer] for layer in layers], max(rotated))
    for name, norm, factor in zip(("q_norm", "k_norm"), norms, factors, strict=True):
        # The weight of a norm over one head is that of all heads, and so is the factor.
        found[f"attention.{name}.weight"] = factor.flatten()[: len(norm.weight)]
        if not isinstance(norm, RMSNorm) and norm.bias is not None:
            found[f"attention.{name}.bias"] = factor.flatten()[: len(norm.bias)]
    return found


def _of_queries_and_keys(
    config: TransformerConfig, seen: Sequence[tuple[Tensor, Tensor]], rotated: int
) -> tuple[Tensor, Tensor]:
    """What queries (Hq, hd) and keys (Hkv, hd) that were as large as ``seen`` are multiplied by;
    their products stay. ``rotated``: channels that a rotation mixes."""
    Hkv, hd = config.num_kv_heads, config.head_dim
    q = torch.stack([each for each, _ in seen]).amax(0).view(Hkv, -1, hd).amax(1)
    k = torch.stack([each for _, each in seen]).amax(0)
    if config.qk_norm == "head":
        q, k = (x.amax(0, keepdim=True).expand(Hkv, hd) for x in (q, k))
    q, k = (_shared(x, rotated) for x in (q, k))
    factor = _factor(k.flatten(), q.flatten()).view(Hkv, hd)
    return factor.repeat_interleave(config.num_heads // Hkv, 0), 1 / factor


def _shared(sizes: Tensor, rotated: int) -> Tensor:
    """(H, hd), the larger of each two channels that a rotation of the first ``rotated`` mixes."""
    halves = sizes[:, :rotated].view(len(sizes), 2, rotated // 2).amax(1)
    return torch.cat((halves, halves, sizes[:, rotated:]), 1)


def _of_norm(
    block: TransformerBlock,
    norm: str,
    name: str,
    matrix: Linear,
    largest: Mapping[Linear | Embedding, Tensor],
    rows: Tensor | None = None,
) -> dict[str, Tensor]:
    """For ``norm`` and the ``matrix`` that reads it, called ``name``, whose rows are multiplied
    by ``rows``."""
    place, found = getattr(block, norm), {}
    factor = torch.ones(matrix.weight.shape[1])
    if place is not None:
        scaled = matrix.weight.float() * (1 if rows is None else rows[:, None])
        factor = _factor(largest[matrix], _sizes(scaled))
        found[f"{norm}.weight"] = 1 / factor
        if not isinstance(place, RMSNorm) and place.bias is not None:
            found[f"{norm}.bias"] = 1 / factor
    if rows is not None and matrix.bias is not None:
        found[f"{name}.bias"] = rows
    return found | {f"{name}.weight": factor if rows is None else factor * rows[:, None]}


def _sizes(weight: Tensor) -> Tensor:
    """The largest of each column."""
    return weight.float().abs().amax(0)


def _factor(given: Tensor, size: Tensor) -> Tensor:
    """For channels that were at most ``given`` before what is at most ``size`` in theirs, (D,):
    such that both have a like share of the product's size, 1 on the whole."""
    used = (given > 0) & (size > 0) & given.isfinite() & size.isfinite()
    logs = torch.where(used, (given / size).log2() / 2, 0.0)
    logs = torch.where(used, logs - logs.sum() / used.sum().clamp(min=1), 0.0)
    return torch.exp2(logs.round()).float()
