"""The importance of each column of a matrix: the mean square of the activations that it reads.

An error in a column counts as much, so that the squared error of the product is least and not that
of the weights; measured on the calibration text of `smoothquant`. Importance matrices of llama.cpp
are the same idea. A table that is the output layer as well is weighted half as unevenly, because
its rows are also looked up. Not covered: tables that are only looked up, and the rounding
(`quantize`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lmstack.model.layers import Embedding
from lmstack.model.quant.smoothquant import observed
from lmstack.model.transformer import Transformer

__all__ = ["importance_of"]

# Of the mean: a channel that the text does not use may be used by another.
_LEAST = 1e-3


def importance_of(module: Transformer, ids: Sequence[int]) -> dict[str, Tensor]:
    """For each matrix of ``module`` that read activations at ``ids``, by its name: positive,
    (cols,), 1 in the mean but for rounding to 8 bits."""
    ops = observed(module, ids)
    found = {}
    for name, matrix in module.named_modules():
        squares = ops.squares.get(matrix)
        if squares is not None and bool(squares.isfinite().all()) and squares.any():
            least = 1.0 if isinstance(matrix, Embedding) else _LEAST
            shares = squares / squares.mean() + least
            # Coarse, so that no machine's order of adding shows (see `smoothquant`).
            found[f"{name}.weight"] = (shares / shares.mean()).bfloat16().float()
    return found
