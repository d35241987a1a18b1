"""The reference ops for rows of which some have an adapter: each product with its row's terms.

Slow where adapters are many, since each is multiplied by itself; the native kernels are the fast
way. Legend: N tokens of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from lmstack.model import Ops
from lmstack.model.layers import Embedding, Linear
from lmstack.model.lora.layers import LoraLinear
from lmstack.model.lora.terms import Term

__all__ = ["AdaptedOps", "Matrices"]


class Matrices(dict[nn.Module, Sequence[Term]]):
    """The terms of an adapter, by the module of the matrix."""

    @property
    def nbytes(self) -> int:
        terms = (term for found in self.values() for term in found)
        return sum(tensor.nbytes for term in terms for tensor in term.tensors)


class AdaptedOps:
    """`Ops` that are ``inner`` but for products, of tokens end to end (N, D). ``adapters``: for
    each the rows that have it (n,), and its terms by the module of the matrix."""

    def __init__(self, inner: Ops, adapters: Sequence[tuple[Tensor, Matrices]]) -> None:
        self._inner, self._adapters = inner, adapters

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def linear(self, x: Tensor, weight: Linear | Embedding | LoraLinear) -> Tensor:
        out = self._inner.linear(x, weight)
        for rows, matrices in self._adapters:
            for term in matrices.get(weight, ()):
                low = F.linear(x[rows].to(term.down.dtype), term.down)
                part = out[rows, term.start : term.stop]
                if term.gains is not None:
                    bias = 0 if weight.bias is None else weight.bias[term.start : term.stop]
                    part = (part - bias) * term.gains + bias
                changed = part + F.linear(low, term.up)
                out[rows, term.start : term.stop] = changed.to(out.dtype)
        return out
