"""What may change when a run goes on from its checkpoint, and what may not.

What the optimizers' memory and the order of the data follow from stays as it was: another value
would make a run that is neither. What steers the steps to come (learning rates, schedule and
length, clipping, dropout, compute, what is kept) may change, and each change is said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.core import InputError, shown

__all__ = ["FIXED", "changes"]

FIXED = (
    *("objective", "model", "tokenizer", "lora", "weights"),
    *("validation", "max_length", "pack", "deduplicate", "batch", "seed"),
    *("optimizer", "ema", "metric"),
)
# Where things are, not what they are.
_PLACES = ("base", "data", "output", "run")


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each key of a recipe that is not what it was. `InputError` for one of
    `FIXED`."""
    for key, value in now.items():
        old = before.get(key)
        if key in _PLACES or old == value:
            continue
        if key in FIXED:
            raise InputError(
                f"{key} is {shown(value)}, and the run was started with {shown(old)}",
                hint=f"give it back what it had, or start a run of its own: run=FOLDER {key}=...",
                param=key,
            )
        yield f"{key} is {shown(value)} from here on; it was {shown(old)}"
