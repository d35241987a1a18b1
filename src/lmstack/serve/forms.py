"""The form in which a model's weights are held unless one is asked for. Loads no torch.

Not covered: making forms (`lmstack.model.forms`) and the weight cache (`lmstack.registry`).
"""

from __future__ import annotations

from pathlib import Path

from lmstack.engine.cpu.library import multiplies_lines, problem
from lmstack.registry import ModelFolder
from lmstack.registry.weight_cache import Stored, most_weights, stored_form

__all__ = ["form_for", "usual_form"]


def usual_form(folder: ModelFolder, root: Path | None = None) -> str:
    """The form of the files where they are quantized, else `form_for` what they hold. ``root``:
    of the store, which remembers what is in a file."""
    own = stored_form(folder)
    if own is not None:
        return own
    if problem():
        return "bfloat16"
    return form_for(most_weights(folder, root), decodes=folder.kind == "generate")


def form_for(stored: Stored, *, decodes: bool) -> str:
    """What is fastest here of that which loses nothing that the files hold, and of a model that
    ``decodes`` 4-bit blocks token by token, less than int8 loses: fewest bytes for one stream and
    fewest operations for many, by the same numbers."""
    if stored == "floats" or problem():
        return "bfloat16"
    return "file8" if stored == "blocks of 4 bits" and decodes and multiplies_lines() else "file"
