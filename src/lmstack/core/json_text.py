"""JSON by RFC 8259, strictly: no NaN, no name twice in an object, no number too large for a float,
no half surrogate pairs, at most 100 levels deep.

For what models and other programs write. Does not cover JSON with text around it.
"""

from __future__ import annotations

import json
from typing import Any

from lmstack.core.errors import shown

__all__ = ["MAX_DEPTH", "canonical_json", "parse_json"]

MAX_DEPTH = 100


def canonical_json(value: Any) -> str:
    """The one way to write ``value``: names sorted, no white space, ASCII. `ValueError` or
    `TypeError` where it is not JSON."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def parse_json(text: str) -> Any:
    """The value that ``text`` is; `ValueError` that says what is wrong where it is none."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deep") from None
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair") from None
    if _depth(value) > MAX_DEPTH:
        raise ValueError("nested too deep")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the name {shown(twice)} is twice in an object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text} is too large")
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [
        inner
        for each in level
        if isinstance(each, dict | list)
        for inner in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
    return depth
