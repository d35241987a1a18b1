"""What filters may ask of a document: what it brought, and what the index knows of it.

The index knows ``path``, ``source``, ``format`` and ``size`` better than any document;
``title``, ``language`` and ``modified`` are its own if it says so. Paths are absolute here;
`with_absolute_paths` lets people give them as they open from the current folder.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lmstack.rag.filters import And, Condition, Fields, Filter, Not, Or, Value

__all__ = [
    "all_fields",
    "dump_fields",
    "iso_time",
    "load_fields",
    "with_absolute_paths",
]

_PATHS = ("path", "source")


def all_fields(row: Any, own: Fields, root: str, path: str) -> dict[str, Value]:
    """The fields of the document in the ``row`` of `schema.documents`, whose source is ``root``
    and whose absolute path is ``path``."""
    known: dict[str, Value] = {"title": row.title, "modified": iso_time(row.mtime_ns)}
    if row.language:
        known["language"] = row.language
    return {**known, **own, "path": path, "source": root, "format": row.format, "size": row.size}


def iso_time(nanoseconds: int) -> str:
    """``2026-11-26T09:30:00Z``, so that a text comparison is one of dates."""
    try:
        return f"{datetime.fromtimestamp(nanoseconds // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (OverflowError, ValueError, OSError):  # a file system may hold any number
        return ""


def dump_fields(fields: Fields) -> str:
    return json.dumps(dict(sorted(fields.items())), ensure_ascii=True, separators=(",", ":"))


def load_fields(data: str) -> dict[str, Value]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in json.loads(data).items()}


def with_absolute_paths(where: Filter | None) -> Filter | None:
    """``where`` with the paths in it as they open from the current folder."""
    match where:
        case Condition(name, "=" | "!=" | "under", str(path)) if name in _PATHS:
            return replace(where, value=os.path.abspath(path))
        case Condition(name, "in", tuple(paths)) if name in _PATHS:
            return replace(where, value=tuple(map(os.path.abspath, paths)))
        case And(parts) | Or(parts):
            return replace(where, parts=tuple(filter(None, map(with_absolute_paths, parts))))
        case Not(part):
            return Not(with_absolute_paths(part) or part)
    return where
