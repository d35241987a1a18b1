"""Typed reading of a parsed config: a value of the wrong kind is an error that names its key.

Serves `config.json` and GGUF metadata, whose keys come from files that may be damaged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lmstack.core import FormatError, shown

__all__ = ["Fields"]


class Fields:
    """A mapping read key by key; ``source`` names the file in messages. None counts as absent."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        if not isinstance(values, Mapping):
            raise FormatError(f"{source} holds {shown(values)}, not an object")
        self._values, self.source = values, source

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def count(self, key: str, default: int | None = None) -> int:
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(key, value, "a whole number")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._required(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not _finite(value):
            raise self._wrong(key, value, "a finite number")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self._required(key, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._required(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def with_defaults(self, defaults: Mapping[str, Any]) -> Fields:
        """The same with ``defaults`` for the keys that it does not have."""
        values = {k: v for k, v in self._values.items() if v is not None}
        return Fields({**defaults, **values}, self.source)

    def nested(self, key: str) -> Fields | None:
        """The object under ``key``, or None."""
        value = self.get(key)
        return None if value is None else Fields(value, f"{self.source}: {key}")

    def _required(self, key: str, default: Any) -> Any:
        value = self.get(key)
        value = default if value is None else value
        if value is None:
            raise FormatError(
                f"{self.source} has no {key!r}",
                hint="the file is damaged or of another kind; fetch the model again",
            )
        return value

    def _wrong(self, key: str, value: object, expected: str) -> FormatError:
        return FormatError(
            f"{self.source}: {key} is {shown(value)}, not {expected}",
            hint="the file is damaged; fetch the model again",
        )


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
