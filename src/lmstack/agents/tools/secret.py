"""Secrets that a tool needs and a model must never see.

Covers the type by which a function asks for one, and taking the values out of whatever text comes
back, also where they are written with escapes. Does not cover a tool that sends them elsewhere or
spells them in a way of its own.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, quote_plus

__all__ = ["MASK", "Secret", "SecretMask"]

MASK = "***"


@dataclass(frozen=True, slots=True)
class Secret:
    """A parameter of this type is filled from `ToolContext.secrets` under its own name, or under
    the name in ``Annotated[Secret, "NAME"]``, and is not part of the tool's schema. ``value``: the
    secret itself; its text and its repr are ``***``."""

    value: str = field(repr=False)

    def __str__(self) -> str:
        return MASK


class SecretMask:
    """Replaces ``values`` by ``***``, also where JSON, URLs, Python or base64 write them."""

    def __init__(self, values: Iterable[str]) -> None:
        spellings = {spelling for value in values if value for spelling in _spellings(value)}
        # The longest first: one secret may be the beginning of another.
        longest = sorted(spellings, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, longest))) if longest else None

    def text(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def data(self, value: Any) -> Any:
        """JSON values with every string in them masked, keys too."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.data(key): self.data(each) for key, each in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes):
            return [self.data(each) for each in value]
        return value


def _spellings(value: str) -> set[str]:
    data = value.encode("utf-8", "surrogatepass")
    return {
        value,
        json.dumps(value)[1:-1],
        json.dumps(value, ensure_ascii=False)[1:-1],
        repr(value)[1:-1],
        quote(data, safe=""),
        quote(data),
        quote_plus(data),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    }
