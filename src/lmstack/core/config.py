"""Base of every configuration: frozen, checks itself, knows the nearest name for a typo.

Covers construction from plain mappings (JSON, TOML, YAML already parsed) and the checks that
fields share. Does not cover reading files or merging with command-line flags.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Iterable, Mapping
from typing import Any, Self

from lmstack.core.errors import InputError, shown

__all__ = ["Config", "check_range", "check_text", "check_whole", "nearest"]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name most like ``name``, or None when nothing is close."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)), None)


def check_range(
    name: str,
    value: float,
    low: float,
    high: float,
    *,
    low_open: bool = False,
    high_open: bool = False,
) -> None:
    """Raise `InputError` unless ``value`` is a number with ``low <= value <= high``. NaN never
    passes, nor do truth values, which Python counts as numbers."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise InputError(f"{name} is {shown(value)}, not a number", param=name)
    above = value > low if low_open else value >= low
    below = value < high if high_open else value <= high
    if not (above and below):
        left, right = "(" if low_open else "[", ")" if high_open else "]"
        raise InputError(
            f"{name} is {shown(value)}, outside {left}{low:g}, {high:g}{right}", param=name
        )


def check_whole(name: str, value: int, low: int, high: int) -> None:
    """`check_range` for whole numbers: 5.0 is not one."""
    check_range(name, value, low, high)
    if not isinstance(value, numbers.Integral):
        raise InputError(f"{name} is {shown(value)}, not a whole number", param=name)


def check_text(name: str, value: str) -> None:
    """Raise `InputError` unless ``value`` is text that UTF-8 can write: JSON can smuggle in
    half of a surrogate pair, which fails much later, in a tokenizer or a database."""
    if not isinstance(value, str):
        raise InputError(f"{name} is {shown(value)}, not text", param=name)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name} holds half a surrogate pair, U+{ord(value[error.start]):04X}, at character"
            f" {error.start}",
            hint="send well-formed Unicode",
            param=name,
        ) from None


@dataclasses.dataclass(frozen=True)
class Config:
    """Subclass as ``@dataclass(frozen=True)`` and check fields in ``__post_init__``."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """Build from a mapping; an unknown key is an `InputError` that names the nearest, a
        missing one that names it."""
        if not isinstance(values, Mapping):
            raise InputError(f"{cls.__name__} is {shown(values)}, not a mapping of settings")
        fields = {f.name: f for f in dataclasses.fields(cls) if f.init}
        known = list(fields)
        for key in values:
            if key not in fields:
                guess = nearest(str(key), known)
                raise InputError(
                    f"{cls.__name__} has no setting {shown(key)}",
                    hint=f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}",
                    param=str(key),
                )
        for name, field in fields.items():
            missing = dataclasses.MISSING
            if name not in values and field.default is field.default_factory is missing:
                raise InputError(f"{cls.__name__} lacks the setting {name!r}", param=name)
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with ``changes``."""
        return dataclasses.replace(self, **changes)
