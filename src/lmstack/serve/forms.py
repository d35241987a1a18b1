"""The form in which a model's weights are held unless one is asked for. Loads no torch.

Not covered: making forms (`lmstack.model.forms`) and the weight cache (`lmstack.registry`).
"""

from __future__ import annotations

from pathlib import Path

from lmstack.core.processor import multiplies_bfloat16
from lmstack.engine.cpu.library import multiplies_lines, problem
from lmstack.engine.memory import free_memory
from lmstack.registry import ModelFolder
from lmstack.registry.weight_cache import Stored, most_weights, stored_form

__all__ = ["form_for", "slow_form", "usual_form"]

_SHARE = 0.5  # of the memory that weights in float32 may take


def usual_form(folder: ModelFolder, root: Path | None = None, device: str = "cpu") -> str:
    """The form of the files where they are quantized, else `form_for` what they hold. ``root``:
    of the store, which remembers what is in a file."""
    own = stored_form(folder)
    if own is not None:
        return own
    stored = "floats" if problem() else most_weights(folder, root)
    return form_for(
        stored, _float32_bytes(folder), decodes=folder.kind == "generate", device=device
    )


def form_for(stored: Stored, float32_bytes: int, *, decodes: bool, device: str = "cpu") -> str:
    """What is fastest here of that which loses nothing that the files hold, and of a model that
    ``decodes`` 4-bit blocks token by token, less than int8 loses: fewest bytes for one stream and
    fewest operations for many, by the same numbers. ``float32_bytes``: of the weights in float32.

    Floats are float32 on a processor that multiplies bfloat16 slowly, if that takes at most half
    of its memory: of all of it and not of what is free, since a model that was evaluated has to be
    the same when it is served."""
    if stored == "floats" or problem():
        slow = device == "cpu" and not multiplies_bfloat16()
        return "float32" if slow and _fits(float32_bytes) else "bfloat16"
    return "file8" if stored == "blocks of 4 bits" and decodes and multiplies_lines() else "file"


def slow_form(folder: ModelFolder, form: str, device: str = "cpu") -> str:
    """Why ``folder`` is slow in ``form``, its `usual_form` here; "" where it is not."""
    if form != "bfloat16" or device != "cpu" or multiplies_bfloat16():
        return ""
    size, memory = _float32_bytes(folder), free_memory()[1]
    beside = "" if memory is None else f" of {memory / 2**30:.1f}"
    return (
        f"{folder.name} is held in bfloat16, which this processor multiplies slowly: in float32 it"
        f" would take {size / 2**30:.1f}{beside} GiB. int8 is smaller and faster (--weights int8)."
    )


def _float32_bytes(folder: ModelFolder) -> int:
    """By the size of the files, as if they were halves, where nothing says how many there are."""
    return 4 * folder.card.parameters or 2 * folder.card.size


def _fits(size: int) -> bool:
    """Where the memory is not known, nothing does."""
    memory = free_memory()[1]
    return memory is not None and size <= _SHARE * memory
