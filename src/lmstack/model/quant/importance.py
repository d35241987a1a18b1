"""How much an error in each column of a matrix counts: as the mean square of what it is given.

The squared error of a product is then least on the whole, and not that of the weights. Seen on the
text that `smoothing` looks at, too; importance matrices of llama.cpp are the same idea. A table
that is the output layer as well is half as uneven: what is looked up in it counts all the same.
Not covered: tables that are only looked up, and the rounding (`quantizing`).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from lmstack.model.layers import Embedding
from lmstack.model.quant.smoothquant import watched
from lmstack.model.transformer import Transformer

__all__ = ["importance_of"]

# Of the mean: a channel that the text does not use may be used by another.
_LEAST = 1e-3


def importance_of(module: Transformer, ids: Sequence[int]) -> dict[str, Tensor]:
    """For each matrix of ``module`` that `Watching` ops saw at ``ids``, by its name: positive,
    (cols,), 1 in the mean."""
    ops = watched(module, ids)
    found = {}
    for name, matrix in module.named_modules():
        squares = ops.squares.get(matrix)
        if squares is not None and bool(squares.isfinite().all()) and squares.any():
            least = 1.0 if isinstance(matrix, Embedding) else _LEAST
            shares = squares / squares.mean() + least
            found[f"{name}.weight"] = shares / shares.mean()
    return found
