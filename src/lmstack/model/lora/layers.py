"""Linear layers with low-rank terms beside their weight: what LoRA and DoRA train.

    W' = W + scale * B A             LoRA (Hu et al., 2021)
    W' = m * (W + scale * B A) / |W + scale * B A|   by rows: DoRA (Liu et al., 2024)

Projections that models keep apart (query, key, value; gate, up) lie fused in one weight here, so
a term changes a range of rows. Does not cover where terms come from (`adapter`) and how `Ops` adds
them without forming the product (`ops`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from lmstack.core import InputError
from lmstack.model.layers import Linear

__all__ = ["LoraLinear", "LowRank", "initial_factors", "refuse_terms"]


class LowRank(nn.Module):
    """One term: ``A`` (r, in), ``B`` (rows, r), and for DoRA ``magnitude`` (rows,) or None.

    ``name``: what others call the projection whose ``start:stop`` rows of ours this changes.
    """

    A: Tensor
    B: Tensor
    magnitude: Tensor | None

    def __init__(
        self,
        name: str,
        rows: tuple[int, int],
        factors: tuple[Tensor, Tensor],
        *,
        scale: float,
        dropout: float = 0.0,
        magnitude: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.name, (self.start, self.stop) = name, rows
        self.A, self.B = (nn.Parameter(factor) for factor in factors)
        self.magnitude = None if magnitude is None else nn.Parameter(magnitude)
        self.scale, self.dropout = scale, dropout

    @property
    def rank(self) -> int:
        return self.A.shape[0]

    def delta(self) -> Tensor:
        """scale * B A, (rows, in)."""
        return (self.B @ self.A) * self.scale

    def merged(self, weight: Tensor) -> Tensor:
        """W' for its rows ``weight`` (rows, in), in the wider of the two dtypes."""
        wide = torch.promote_types(weight.dtype, self.A.dtype)
        summed = weight.to(wide) + self.delta().to(wide)
        if self.magnitude is None:
            return summed
        return summed * (self.magnitude / _norms(summed))[:, None]

    def gains(self, weight: Tensor) -> Tensor:
        """m / |W + scale * B A| for each row of a DoRA, its norm taken as a constant as DoRA says
        (its section 4.3)."""
        assert self.magnitude is not None
        with torch.no_grad():
            norms = _norms(weight.to(self.A.dtype) + self.delta())
        return self.magnitude / norms

    def extra_repr(self) -> str:
        kind = "LoRA" if self.magnitude is None else "DoRA"
        return f"{self.name}: {kind} r={self.rank}, rows {self.start} to {self.stop}"


class LoraLinear(nn.Module):
    """``base`` with ``terms`` on ranges of its rows that do not overlap."""

    def __init__(self, base: Linear, terms: list[LowRank]) -> None:
        super().__init__()
        self.base = base
        by_row = sorted(terms, key=lambda term: term.start)
        self.terms = nn.ModuleList(by_row)

    def ordered(self) -> list[LowRank]:
        """The terms by their rows."""
        return [term for term in self.terms if isinstance(term, LowRank)]

    @property
    def weight(self) -> Tensor:
        """The merged weight, in the dtype of the base: right for ops that know no terms, and
        slow, because it is formed at each access."""
        weight = self.base.weight
        parts, end = [], 0
        for term in self.ordered():
            parts.append(weight[end : term.start])
            parts.append(term.merged(weight[term.start : term.stop]).to(weight.dtype))
            end = term.stop
        parts.append(weight[end:])
        return torch.cat(parts)

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias


def refuse_terms(module: nn.Module) -> None:
    """`InputError` where ``module`` has terms: what is about to be done would leave them out."""
    if any(isinstance(child, LoraLinear) for child in module.modules()):
        raise InputError(
            "this model has an adapter that is not merged",
            hint="merge_adapter(module) first; save_adapter(module, folder) writes the adapter",
        )


def _norms(weight: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.norm(weight, dim=1)
    return norms


def initial_factors(rank: int, rows: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """A uniform in +-1 / sqrt(in), B zero, so that a fresh term changes nothing."""
    columns = like.shape[1]
    dtype = torch.promote_types(like.dtype, torch.float32)
    A = torch.empty(rank, columns, dtype=dtype, device=like.device)
    if not A.is_meta:
        # Kaiming with a = sqrt(5), as in PEFT and in torch's own linear layers.
        nn.init.kaiming_uniform_(A, a=math.sqrt(5))
    return A, torch.zeros(rows, rank, dtype=dtype, device=like.device)
