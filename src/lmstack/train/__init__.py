"""Training: a recipe to a model in the registry, on the forward pass that serves.

    recipe -> data (rows, examples, packing) -> objective (batch, loss) -> loop (optimizer,
    checkpoints, metrics) -> registry

Names are looked up when they are used: checking a recipe loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.train.recipe import Recipe, read_recipe
    from lmstack.train.run import train

__all__ = ["Recipe", "read_recipe", "train"]

_HOMES = {"Recipe": "recipe", "read_recipe": "recipe", "train": "run"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = found
    return found
