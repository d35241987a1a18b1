"""Rotary positions (RoPE): what a layer rotates by, and the cosine and sine tables for it.

Covers the default, ``linear`` and ``llama3`` frequency scalings, with the numerics of
transformers: angles, cosine and sine in float32, then cast to the dtype of the activations.
Learned positions are an embedding table of the Transformer. Not covered: scalings that depend
on the length of the sequence (``dynamic``, ``longrope``) and ``yarn``; they are refused.

Source: Su et al., RoFormer, 2021; llama3 scaling as in ``transformers.modeling_rope_utils``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from lmstack.core import Config, InputError, check_range, shown

__all__ = ["RopeScaling", "RopeSpec"]

RopeScaling = Literal["default", "linear", "llama3"]


@dataclass(frozen=True)
class RopeSpec(Config):
    """How one layer rotates queries and keys.

    ``factor`` stretches positions for ``linear`` and ``llama3``; the other three belong to
    ``llama3``: wavelengths shorter than ``original_positions / high_freq_factor`` stay, longer
    than ``original_positions / low_freq_factor`` are stretched, those between are blended.
    """

    theta: float = 10000.0
    scaling: RopeScaling = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_positions: int = 8192

    def __post_init__(self) -> None:
        if self.scaling not in get_args(RopeScaling):
            raise InputError(
                f"rope scaling {shown(self.scaling)} is not implemented",
                hint=f"implemented: {', '.join(get_args(RopeScaling))}",
                param="scaling",
            )
        check_range("theta", self.theta, 0, math.inf, low_open=True, high_open=True)
        check_range("factor", self.factor, 0, math.inf, low_open=True, high_open=True)
        check_range("low_freq_factor", self.low_freq_factor, 0, math.inf, low_open=True)
        if self.high_freq_factor <= self.low_freq_factor:
            raise InputError(
                f"high_freq_factor {self.high_freq_factor} is not above "
                f"low_freq_factor {self.low_freq_factor}",
                param="high_freq_factor",
            )
        check_range("original_positions", self.original_positions, 1, math.inf)

    def inverse_frequencies(self, head_dim: int, device: torch.device | None = None) -> Tensor:
        """Radians a position for each pair of channels, float32, shape (head_dim / 2,)."""
        exponents = torch.arange(0, head_dim, 2, dtype=torch.float, device=device) / head_dim
        inverse = 1.0 / (self.theta**exponents)
        if self.scaling == "linear":
            return inverse / self.factor
        if self.scaling == "llama3":
            return self._llama3(inverse)
        return inverse

    def _llama3(self, inverse: Tensor) -> Tensor:
        wavelength = 2 * math.pi / inverse
        low, high = self.low_freq_factor, self.high_freq_factor
        smooth = (self.original_positions / wavelength - low) / (high - low)
        blended = (1 - smooth) * inverse / self.factor + smooth * inverse
        scaled = torch.where(
            wavelength > self.original_positions / low, inverse / self.factor, blended
        )
        return torch.where(wavelength < self.original_positions / high, inverse, scaled)

    def tables(self, positions: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine for `Ops.rotary`, each (..., 1, head_dim) for positions (...).

        The first half of the sine is negated, so that rotating needs a swap of halves and no
        negation of activations.
        """
        inverse = _inverse_frequencies(self, head_dim, positions.device)
        angles = positions[..., None].float() * inverse
        cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
        return (
            torch.cat((cos, cos), dim=-1).unsqueeze(-2),
            torch.cat((-sin, sin), dim=-1).unsqueeze(-2),
        )


@functools.lru_cache(maxsize=64)
def _inverse_frequencies(spec: RopeSpec, head_dim: int, device: torch.device) -> Tensor:
    """`RopeSpec.inverse_frequencies`, kept: a decode step would spend more on it than on use."""
    # Built outside inference mode, so that training may use what serving was first to ask for.
    with torch.inference_mode(False):
        return spec.inverse_frequencies(head_dim, device)
