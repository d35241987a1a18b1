"""Positions that enter before attention: rotary tables (RoPE) and sinusoids.

Covers RoPE over all or part of a head with every scaling in use, with the numerics of
transformers: angles, cosine and sine in float32, then cast to the dtype of the activations.
What is added to attention scores (ALiBi, T5, DeBERTa) is in `biases`; learned positions are an
embedding table of the Transformer.

Sources: Su et al., RoFormer, 2021; Peng et al., YaRN, 2023; Ding et al., LongRoPE, 2024;
Vaswani et al., 2017; scalings as in ``transformers.modeling_rope_utils``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary

from lmstack.core import Config, InputError, check_range, check_whole, shown

__all__ = ["RopeScaling", "RopeSpec", "sinusoids"]

_MOST = 1 << 31
_FACTORS = ("factor", "low_freq_factor", "high_freq_factor")
RopeScaling = Literal["default", "linear", "dynamic", "yarn", "llama3", "longrope"]


@dataclass(frozen=True)
class RopeSpec(Config):
    """How one layer rotates queries and keys.

    ``fraction``: share of a head's channels that rotate, the first ones. ``factor`` stretches
    positions. ``original_positions``: length the model was first trained at, which all scalings
    but ``linear`` need. ``low_freq_factor`` and ``high_freq_factor`` (``llama3``): wavelengths
    shorter than ``original_positions / high_freq_factor`` stay, longer than
    ``original_positions / low_freq_factor`` are stretched, those between are blended.
    ``beta_fast``, ``beta_slow``, ``truncate`` (``yarn``): rotations over the original length
    between which frequencies blend, and whether the borders are rounded to whole channels.
    ``short_factors``, ``long_factors`` (``longrope``): a divisor for each pair of channels, up
    to the original length and beyond it. ``attention_factor`` (``yarn``, ``longrope``)
    multiplies cosine and sine; None: the value that the paper derives from ``factor``.
    """

    theta: float = 10000.0
    fraction: float = 1.0
    scaling: RopeScaling = "default"
    factor: float = 1.0
    original_positions: int = 8192
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True
    short_factors: tuple[float, ...] = ()
    long_factors: tuple[float, ...] = ()
    attention_factor: float | None = None

    def __post_init__(self) -> None:
        if self.scaling not in get_args(RopeScaling):
            raise InputError(
                f"rope scaling {shown(self.scaling)} is not implemented",
                hint=f"implemented: {', '.join(get_args(RopeScaling))}",
                param="scaling",
            )
        for name, most in (("theta", 1e18), ("fraction", 1), *((name, _MOST) for name in _FACTORS)):
            check_range(name, getattr(self, name), 0, most, low_open=True)
        for name in ("beta_fast", "beta_slow"):
            check_range(name, getattr(self, name), 1 / _MOST, _MOST)
        # Both are divided by their logarithms.
        check_whole("original_positions", self.original_positions, 2, _MOST)
        if self.scaling == "yarn" and self.theta == 1:
            raise InputError("theta is 1 with rope scaling 'yarn'", param="theta")
        if self.high_freq_factor <= self.low_freq_factor:
            raise InputError(
                f"high_freq_factor {self.high_freq_factor} is not above "
                f"low_freq_factor {self.low_freq_factor}",
                param="high_freq_factor",
            )
        if self.attention_factor is not None:
            check_range("attention_factor", self.attention_factor, 0, _MOST, low_open=True)
        self._check_factors()

    def _check_factors(self) -> None:
        for name in ("short_factors", "long_factors"):
            factors = getattr(self, name)
            if bool(factors) != (self.scaling == "longrope"):
                raise InputError(
                    f"{name} has {len(factors)} values with rope scaling {self.scaling!r}",
                    hint="longrope needs a divisor for each pair of channels, others none",
                    param=name,
                )
            for value in factors:
                check_range(name, value, 0, _MOST, low_open=True)

    def check_width(self, head_dim: int) -> None:
        """`InputError` where heads of ``head_dim`` channels cannot be rotated so."""
        width = self.rotary_dim(head_dim)
        # The base of ``dynamic`` grows with width / (width - 2).
        if width % 2 or width < (4 if self.scaling == "dynamic" else 2):
            raise InputError(
                f"head_dim {head_dim} gives {width} channels to rotate with rope scaling"
                f" {self.scaling!r}; RoPE rotates channels in pairs",
                param="head_dim",
            )
        for name in ("short_factors", "long_factors"):
            count = len(getattr(self, name))
            if self.scaling == "longrope" and count != width // 2:
                raise InputError(
                    f"longrope has {count} divisors for {width // 2} pairs of channels", param=name
                )

    def rotary_dim(self, head_dim: int) -> int:
        """Channels of a head that rotate."""
        return int(head_dim * self.fraction)

    @property
    def depends_on_length(self) -> bool:
        """Whether the angles change with the length of the sequence."""
        return self.scaling in ("dynamic", "longrope")

    @property
    def magnitude(self) -> float:
        """What cosine and sine are multiplied by."""
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor <= 1:
            return 1.0
        if self.scaling == "yarn":
            return 0.1 * math.log(self.factor) + 1.0
        if self.scaling == "longrope":
            return math.sqrt(1 + math.log(self.factor) / math.log(self.original_positions))
        return 1.0

    def inverse_frequencies(
        self, head_dim: int, device: torch.device | None = None, length: int | None = None
    ) -> Tensor:
        """Radians a position for each pair of channels, float32, (rotary_dim / 2,).

        ``length``: tokens of the sequence; matters where `depends_on_length`."""
        dim = self.rotary_dim(head_dim)
        exponents = torch.arange(0, dim, 2, dtype=torch.float, device=device) / dim
        if self.scaling == "longrope":
            beyond = length is not None and length > self.original_positions
            factors = self.long_factors if beyond else self.short_factors
            return 1.0 / (torch.tensor(factors, device=device) * self.theta**exponents)
        if self.scaling == "dynamic":
            return 1.0 / (self._dynamic_theta(dim, length) ** exponents)
        if self.scaling == "yarn":
            return self._yarn(self.theta**exponents, dim)
        inverse = 1.0 / (self.theta**exponents)
        if self.scaling == "linear":
            return inverse / self.factor
        return self._llama3(inverse) if self.scaling == "llama3" else inverse

    def _dynamic_theta(self, dim: int, length: int | None) -> float:
        stretch = max(length or 0, self.original_positions) / self.original_positions
        return float(self.theta * (self.factor * stretch - (self.factor - 1)) ** (dim / (dim - 2)))

    def _yarn(self, frequencies: Tensor, dim: int) -> Tensor:
        def channel(rotations: float) -> float:
            """The channel that turns so many times over the original length."""
            turns = self.original_positions / (rotations * 2 * math.pi)
            return dim * math.log(turns) / (2 * math.log(self.theta))

        low, high = channel(self.beta_fast), channel(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, dim - 1)
        high += 0.001 if low == high else 0
        places = torch.arange(dim // 2, dtype=torch.float, device=frequencies.device)
        kept = 1 - ((places - low) / (high - low)).clamp(0, 1)
        return 1.0 / (self.factor * frequencies) * (1 - kept) + 1.0 / frequencies * kept

    def _llama3(self, inverse: Tensor) -> Tensor:
        wavelength = 2 * math.pi / inverse
        low, high = self.low_freq_factor, self.high_freq_factor
        smooth = (self.original_positions / wavelength - low) / (high - low)
        blended = (1 - smooth) * inverse / self.factor + smooth * inverse
        scaled = torch.where(
            wavelength > self.original_positions / low, inverse / self.factor, blended
        )
        return torch.where(wavelength < self.original_positions / high, inverse, scaled)

    def tables(
        self, positions: Tensor, head_dim: int, dtype: torch.dtype, length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine for `Ops.rotary`, each (..., 1, rotary_dim) for positions (...).

        The first half of the sine is negated, so that rotating needs a swap of halves and no
        negation of activations. ``length``: see `inverse_frequencies`; None: that which the
        positions reach.
        """
        if not self.depends_on_length:
            length = None
        elif length is None:
            length = int(positions.max()) + 1 if positions.numel() else 0
        inverse = _inverse_frequencies(self, head_dim, positions.device, length)
        angles = positions[..., None].float() * inverse
        cos, sin = angles.cos(), angles.sin()
        if (magnitude := self.magnitude) != 1.0:
            cos, sin = cos * magnitude, sin * magnitude
        cos, sin = cos.to(dtype), sin.to(dtype)
        return (
            torch.cat((cos, cos), dim=-1).unsqueeze(-2),
            torch.cat((-sin, sin), dim=-1).unsqueeze(-2),
        )


@functools.lru_cache(maxsize=64)
def _inverse_frequencies(
    spec: RopeSpec, head_dim: int, device: torch.device, length: int | None
) -> Tensor:
    """`RopeSpec.inverse_frequencies`, kept: a decode step would spend more on it than on use."""
    # Built outside inference mode, so that training may use what serving was first to ask for.
    with torch.inference_mode(False):
        return spec.inverse_frequencies(head_dim, device, length)


def sinusoids(positions: Tensor, width: int, *, halves: bool = False) -> Tensor:
    """(...) positions to (..., width), float32: sin and cos of position / 10000^(2i / width),
    interleaved (Vaswani et al., 2017), or all sines before all cosines (``halves``, Marian).
    What stands for a tensor may answer in its place, as for torch's own functions."""
    if has_torch_function_unary(positions):
        answer: Tensor = handle_torch_function(
            sinusoids, (positions,), positions, width, halves=halves
        )
        return answer
    pairs = torch.arange((width + 1) // 2, dtype=torch.float64, device=positions.device)
    angles = positions[..., None].double() / 10000.0 ** (2 * pairs / width)
    sin, cos = angles.sin(), angles[..., : width // 2].cos()
    if halves:
        return torch.cat((sin, cos), dim=-1).float()
    out = torch.empty(*positions.shape, width, dtype=torch.float64, device=positions.device)
    out[..., 0::2], out[..., 1::2] = sin, cos
    return out.float()
