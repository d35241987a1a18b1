"""Training: a recipe to a model in the registry, on the forward pass that serves.

    recipe -> data (rows, examples, packing) -> objective (batch, loss) -> loop (optimizer,
    checkpoints, metrics) -> registry

Names are looked up when they are used: checking a recipe loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.train.recipe import Recipe, read_recipe
    from lmstack.train.run import train

__all__ = ["Recipe", "read_recipe", "train"]

__getattr__, __dir__ = lazy_names(__name__)
