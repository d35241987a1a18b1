"""Design tokens as values, for pictures that no browser draws: colours of the light theme."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

__all__ = ["colour"]

_COLOUR = re.compile(r"--([\w-]+): (?:light-dark\()?(#[0-9a-f]{6})")


def colour(name: str) -> str:
    """``#rrggbb`` of ``--name`` in ``tokens.css``."""
    return _colours()[name]


@cache
def _colours() -> dict[str, str]:
    text = (resources.files("lmstack.app.report") / "tokens.css").read_text(encoding="utf-8")
    return dict(_COLOUR.findall(text))
