"""Base of every configuration: frozen, checks itself, knows the nearest name for a typo.

Covers construction from plain mappings (JSON, TOML, YAML already parsed). Does not cover
reading files or merging with command-line flags.
"""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any, Self

from lmstack.core.errors import InputError, shown

__all__ = ["Config", "check_range", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when nothing is close."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None


def check_range(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raise `InputError` unless ``low <= value <= high`` (NaN never passes)."""
    above = value > low if low_open else value >= low
    below = value < high if high_open else value <= high
    if not (above and below):
        left, right = "(" if low_open else "[", ")" if high_open else "]"
        raise InputError(
            f"{name} is {shown(value)}, outside {left}{low:g}, {high:g}{right}", param=name
        )


@dataclasses.dataclass(frozen=True)
class Config:
    """Subclass as ``@dataclass(frozen=True)`` and check fields in ``__post_init__``."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build from a mapping; an unknown key is an `InputError` that names the nearest."""
        known = [f.name for f in dataclasses.fields(cls) if f.init]
        for key in values:
            if key not in known:
                guess = nearest(key, known)
                raise InputError(
                    f"{cls.__name__} has no setting {shown(key)}",
                    hint=f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}",
                    param=key,
                )
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with ``changes``."""
        return dataclasses.replace(self, **changes)
