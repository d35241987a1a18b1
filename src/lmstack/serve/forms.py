"""The form in which a model's weights are held unless one is asked for, and whether it fits into
the memory that is free. Loads no torch.

Covers weights, by the least that a form of them takes: what is refused would not run. Does not
cover making forms (`lmstack.model.forms`), the weight cache (`lmstack.registry`), the KV cache and
users (`lmstack doctor plan`).
"""

from __future__ import annotations

from pathlib import Path

from lmstack.core import InputError
from lmstack.core.processor import multiplies_bfloat16
from lmstack.engine.cpu.library import multiplies_lines, problem
from lmstack.engine.memory import free_memory
from lmstack.registry import KNOWN, ModelFolder
from lmstack.registry.weight_cache import Stored, most_weights, stored_form

__all__ = ["check_memory", "form_for", "slow_form", "smaller_model", "too_large", "usual_form"]

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


# The least bytes of a weight. The blocks of a file are those of the file, or more.
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "q4": 0.5, "nf4": 0.5}
_BESIDE = 2  # times its download: what a model that is recommended should find free


def check_memory(folder: ModelFolder, form: str) -> None:
    """`InputError` where the weights of ``folder`` in ``form`` are larger than what is free."""
    free = free_memory()[0]
    needed = _weight_bytes(folder, form)
    if free is None or needed <= free:
        return
    int8 = _weight_bytes(folder, "int8")
    other = smaller_model(folder.card.size, free) if folder.kind == "generate" else ""
    hint = f"{other} fits: lmstack pull {other}" if other else "close other programs"
    if int8 < min(needed, free) and stored_form(folder) is None:
        hint = f"as int8 they take {_gib(int8)} GiB"
    raise InputError(
        f"{folder.name} needs at least {_gib(needed)} GiB of memory for its weights as {form},"
        f" {_gib(free)} GiB is free",
        hint=hint,
        param="model",
    )


def too_large(name: str) -> str:
    """Of a model that can be pulled by its name, and generates: why it cannot be used here, ""
    where it can."""
    free, pin = free_memory()[0], KNOWN.get(name)
    if free is None or pin is None or pin.kind != "generate" or pin.download <= free:
        return ""
    other = smaller_model(pin.download, free)
    fits = f"; {other} fits" if other else ""
    needed = _gib(pin.download)
    return (
        f"{name} needs at least {needed} GiB of memory for its weights, {_gib(free)} GiB is free"
        f"{fits}"
    )


def smaller_model(size: int, free: int) -> str:
    """The largest model below ``size`` bytes with a short name that chats in ``free`` memory; ""
    where none does."""
    fitting = {
        pin.download: name
        for name, pin in KNOWN.items()
        if pin.chats and pin.download < size and _BESIDE * pin.download <= free
    }
    return fitting[max(fitting)] if fitting else ""


def _weight_bytes(folder: ModelFolder, form: str) -> float:
    if form not in _BYTES or form == stored_form(folder):
        return folder.card.size
    return _BYTES[form] * (folder.card.parameters or folder.card.size / 2)


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f}"
