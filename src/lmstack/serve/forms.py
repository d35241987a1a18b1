"""The form in which a model's weights are held unless one is asked for. Loads no torch.

Not covered: making forms (`lmstack.model.forms`) and the weight cache (`lmstack.registry`).
"""

from __future__ import annotations

from pathlib import Path

from lmstack.engine.cpu.library import problem
from lmstack.registry import ModelFolder
from lmstack.registry.weight_cache import has_blocks, stored_form

__all__ = ["usual_form"]


def usual_form(folder: ModelFolder, root: Path | None = None) -> str:
    """The form of the files where they are quantized, else what is fastest here and loses nothing
    that the files hold. ``root``: of the store, which remembers what is in a file."""
    own = stored_form(folder)
    if own is not None:
        return own
    return "file" if not problem() and has_blocks(folder, root) else "bfloat16"
