"""Whether the weights of a model fit into the memory that is free, and which model does. Loads no
torch.

Covers weights, by the least that a form of them takes: what is refused would not run. Does not
cover the KV cache and users (`lmstack doctor plan`).
"""

from __future__ import annotations

from lmstack.core import InputError
from lmstack.engine.memory import free_memory
from lmstack.registry import KNOWN, ModelFolder
from lmstack.registry.weight_cache import stored_form

__all__ = ["check_memory", "smaller_model", "too_large"]

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
