"""The modules that hold weights. They hold them and nothing more: `Ops` computes with them.

Weights are created uninitialised, so that a loader pays nothing for values it overwrites;
`Transformer.reset_parameters` fills them for a model that starts from nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Bias", "Convolution", "Embedding", "Experts", "LayerNorm", "Linear", "RMSNorm"]


class _Weights(nn.Module):
    def extra_repr(self) -> str:
        held = self.named_parameters(recurse=False)
        return ", ".join(f"{name} {tuple(weight.shape)}" for name, weight in held)


class Linear(_Weights):
    """``weight`` (out, in) and ``bias`` (out,) or None."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, in_features: int, out_features: int, *, bias: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_features, in_features))
        self.bias = nn.Parameter(torch.empty(out_features)) if bias else None


class Embedding(_Weights):
    """``weight`` (rows, D). ``bias`` is always None: a tied table serves as a `Linear`."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, rows: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(rows, width))
        self.bias = None


class Bias(_Weights):
    """``bias`` (width,) alone, for an output layer whose weight is the embedding table."""

    bias: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(width))


class Experts(_Weights):
    """One matrix an expert: ``weight`` (experts, out, in)."""

    weight: Tensor

    def __init__(self, count: int, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(count, out_features, in_features))


class Convolution(_Weights):
    """Over neighbours: ``weight`` (out, in / groups, neighbours) and ``bias`` (out,)."""

    weight: Tensor
    bias: Tensor

    def __init__(self, width: int, groups: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, width // groups, size))
        self.bias = nn.Parameter(torch.empty(width))


class RMSNorm(_Weights):
    """x / sqrt(mean(x^2) + eps) * weight (Zhang and Sennrich, 2019).

    ``from_one``: the weight counts from 1, and the product is in float32 (Gemma)."""

    weight: Tensor

    def __init__(self, width: int, eps: float, *, from_one: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps, self.from_one = eps, from_one


class LayerNorm(_Weights):
    """(x - mean) / sqrt(var + eps) * weight + bias (Ba et al., 2016). ``bias`` may be None."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, width: int, eps: float, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width)) if bias else None
        self.eps = eps
