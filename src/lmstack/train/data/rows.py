"""Rows of data: what a file holds before an objective reads it.

Covers JSON Lines and plain text, one document a file. A row that cannot be read is a `BadRow`
that names its file and line, and the rows after it follow. Streamed: nothing is held but one row.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, NotFoundError, shown
from lmstack.core.files import store_error

__all__ = ["BadRow", "Row", "find_data", "read_rows"]

_SUFFIXES = (".jsonl", ".txt", ".md")


@dataclass(frozen=True, slots=True)
class Row:
    """``values``: the columns; a text file is one row with the column ``text``. ``place``: file
    and line, for messages."""

    values: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be read, and why."""

    place: str
    reason: str


def find_data(paths: Sequence[str | Path]) -> list[Path]:
    """The files that ``paths`` name, in order; a folder stands for those below it."""
    found: dict[Path, None] = {}
    for name in paths:
        path = Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES)
        elif path.is_file():
            inside = [path]
        else:
            inside = []
        if not inside:
            raise NotFoundError(
                f"there is no data at {shown(str(name))}",
                hint=f"give files or folders of {', '.join(_SUFFIXES)}",
                param="data",
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def read_rows(path: Path) -> Iterator[Row | BadRow]:
    """The rows of one file, in order."""
    try:
        if path.suffix == ".jsonl":
            yield from _json_lines(path)
        elif path.suffix in (".txt", ".md"):
            yield Row({"text": path.read_text(encoding="utf-8", errors="replace")}, str(path))
        else:
            raise FormatError(f"{path} is not data", hint=f"one of {', '.join(_SUFFIXES)}")
    except OSError as error:
        raise store_error(error, path, "reading") from error


def _json_lines(path: Path) -> Iterator[Row | BadRow]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            place = f"{path}:{number}"
            try:
                values = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield BadRow(place, f"not JSON: {error}")
                continue
            if isinstance(values, dict):
                yield Row(values, place)
            else:
                yield BadRow(place, f"{shown(values)} is not an object")
