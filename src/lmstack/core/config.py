"""Base of every configuration: frozen, checks itself, knows the nearest name for a typo.

Covers construction from plain mappings (JSON, TOML, YAML already parsed) and the checks that
fields share. Does not cover reading files or merging with command-line flags.
"""

from __future__ import annotations

import dataclasses
import difflib
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from lmstack.core.errors import InputError, shown

__all__ = ["Allowed", "Config", "allowed", "check_range", "check_text", "check_whole", "nearest"]


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
        message = f"{name} is {shown(value)}, outside {left}{low:g}, {high:g}{right}"
        raise InputError(message, param=name)


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
        place = f"U+{ord(value[error.start]):04X}, at character {error.start}"
        message = f"{name} holds half a surrogate pair, {place}"
        raise InputError(message, hint="send well-formed Unicode", param=name) from None


def check_texts(name: str, texts: Any, most: int) -> None:
    """`InputError` unless ``texts`` are at most ``most`` strings, none empty."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        hint = "write a single one as a sequence too: ('END',)"
        message = f"{name} is {shown(texts)}, not a sequence of strings"
        raise InputError(message, hint=hint, param=name)
    if len(texts) > most:
        raise InputError(f"{name} has {len(texts)} strings, at most {most}", param=name)
    for text in texts:
        check_text(name, text)
        if not text:
            raise InputError(f"{name} holds an empty string", param=name)


@dataclasses.dataclass(frozen=True)
class Allowed:
    """What a field of a `Config` may hold: a number of ``kind`` from ``low`` (``above``: or rather
    above it) to ``high``, at most ``high`` texts, a truth value or one of ``also``. Fields of
    request bodies, described by ``about``, are made of this."""

    kind: type
    low: float = 0
    high: float = 0
    about: str = ""
    above: bool = False
    also: tuple[str, ...] = ()

    def check(self, name: str, value: Any) -> None:
        if self.kind is int:
            check_whole(name, value, int(self.low), int(self.high))
        elif self.kind is float:
            check_range(name, value, self.low, self.high, low_open=self.above)
        elif self.kind is str and not self.also:
            check_texts(name, value, int(self.high))
        elif value not in self.also and not (self.kind is bool and isinstance(value, bool)):
            known = " or ".join(("true", "false", *map(repr, self.also)))
            known = known if self.kind is bool else ", ".join(self.also)
            raise InputError(f"{name} is {shown(value)}, not {known}", param=name)


def allowed(default: Any, kind: type, *bounds: Any, **more: Any) -> Any:
    """A field of a `Config`; None is allowed where it is the default."""
    return dataclasses.field(default=default, metadata={"rule": Allowed(kind, *bounds, **more)})


@dataclasses.dataclass(frozen=True)
class Config:
    """Subclass as ``@dataclass(frozen=True)``; check the rest in ``__post_init__``."""

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):
            value, rule = getattr(self, each.name), each.metadata.get("rule")
            if rule is not None and (value is not None or each.default is not None):
                rule.check(each.name, value)
                if rule.kind is str and not rule.also:
                    object.__setattr__(self, each.name, tuple(value))

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
                hint = f"did you mean {guess!r}?" if guess else f"known: {', '.join(known)}"
                message = f"{cls.__name__} has no setting {shown(key)}"
                raise InputError(message, hint=hint, param=str(key))
        for name, field in fields.items():
            missing = dataclasses.MISSING
            if name not in values and field.default is field.default_factory is missing:
                raise InputError(f"{cls.__name__} lacks the setting {name!r}", param=name)
        return cls(**values)

    def replace(self, **changes: Any) -> Self:
        """A checked copy with ``changes``."""
        return dataclasses.replace(self, **changes)
