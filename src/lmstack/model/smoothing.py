"""Brings activations and weights to like sizes before both are rounded to 8 bits.

A few channels of a decoder are far larger than the rest, and a group of activations that share a
scale loses what the small ones said. What a norm or the "up" of a gated MLP gives may be divided
by any number, channel by channel, when the matrix that reads it is multiplied by it: SmoothQuant
(Xiao et al. 2023, alpha = 1/2), on a text that a model of the field would find ordinary. Numbers
are powers of two, so that no float changes but by its exponent: the model is the same until it is
rounded, and sums in the order of another machine give another number only at a tie.

Not covered: what other matrices read (attention's output, encoders that norm what they add,
mixtures, encoder-decoders), and the rounding (`quantizing`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib import resources

import torch
from torch import Tensor

from lmstack.model.blocks import Block, Mlp
from lmstack.model.config import TransformerConfig
from lmstack.model.layers import Embedding, Linear, RMSNorm
from lmstack.model.low_rank import LoraLinear
from lmstack.model.ops import ReferenceOps
from lmstack.model.transformer import Transformer

__all__ = ["Smoothing", "Watching", "calibration_text", "may_smooth", "smoothing_of"]

_TOKENS = 512


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


class Watching(ReferenceOps):
    """The reference, noting the largest of each channel that a matrix is given."""

    def __init__(self) -> None:
        self.largest: dict[Linear | Embedding, Tensor] = {}

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        if isinstance(weight, Linear):
            size = x.detach().abs().flatten(0, -2).amax(0).float()
            before = self.largest.get(weight)
            self.largest[weight] = size if before is None else torch.maximum(before, size)
        return super().linear(x, weight)


def calibration_text() -> str:
    """Prose, talk, code, tables and other languages."""
    text = resources.files("lmstack.model") / "calibration.txt"
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
def smoothing_of(module: Transformer, ids: Sequence[int]) -> Smoothing:
    """For ``module``, which computes with `Watching` ops, from what its matrices are given at
    ``ids``, at least one."""
    config, ops = module.config, module.ops
    assert isinstance(ops, Watching)
    count = min(_TOKENS, config.max_positions)
    module(torch.tensor([list(ids)[:count]]))
    factors: dict[str, Tensor] = {}
    for name, block in module.named_modules():
        if isinstance(block, Block):
            factors.update((f"{name}.{key}", f) for key, f in _of_block(block, ops.largest))
    return Smoothing(factors, config.norm == "rms1p")


def _of_block(
    block: Block, largest: Mapping[Linear | Embedding, Tensor]
) -> Iterator[tuple[str, Tensor]]:
    mlp = block.mlp
    assert isinstance(mlp, Mlp)
    up, rows = mlp.up.weight.float(), None
    if mlp.gated:
        factor = _factor(largest[mlp.down], mlp.down.weight)
        rows = torch.cat((torch.ones_like(factor), 1 / factor))
        up = up * rows[:, None]
        yield "mlp.down.weight", factor
        if mlp.up.bias is not None:
            yield "mlp.up.bias", rows
    for key, norm, matrix, weight in (
        ("attention.qkv.weight", "attention_norm", block.attention.qkv, block.attention.qkv.weight),
        ("mlp.up.weight", "mlp_norm", mlp.up, up),
    ):
        place = getattr(block, norm)
        factor = torch.ones(weight.shape[1])
        if place is not None:
            factor = _factor(largest[matrix], weight)
            yield f"{norm}.weight", 1 / factor
            if not isinstance(place, RMSNorm) and place.bias is not None:
                yield f"{norm}.bias", 1 / factor
        yield key, factor if matrix is not mlp.up or rows is None else factor * rows[:, None]


def _factor(given: Tensor, weight: Tensor) -> Tensor:
    """Of each column of ``weight`` (N, D), whose channel was at most ``given``, (D,): such that
    both have a like share of the product's size, 1 on the whole."""
    size = weight.float().abs().amax(0)
    used = (given > 0) & (size > 0) & given.isfinite()
    logs = torch.where(used, (given / size).log2() / 2, 0.0)
    logs = torch.where(used, logs - logs.sum() / used.sum().clamp(min=1), 0.0)
    return torch.exp2(logs.round())
