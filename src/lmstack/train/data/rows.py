"""Rows of data: what a file holds before an objective reads it.

Covers JSON Lines (plain or gzipped), Parquet, and text. A row that cannot be read is a `BadRow`
that names its file and line, and the rows after it follow. Streamed: nothing is held but one line,
one batch of a Parquet file, or one text. Does not cover what the columns mean (`formats`).
"""

from __future__ import annotations

import codecs
import glob
import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lmstack.core import NotFoundError, require, shown
from lmstack.core.files import store_error
from lmstack.train.data.hub import hub_file, is_hub_name

__all__ = ["BadRow", "Row", "Rows", "find_data"]

_LINES, _TEXTS, _TABLES = (".jsonl", ".jsonl.gz"), (".txt", ".md"), (".parquet",)
_SUFFIXES = (*_LINES, *_TABLES, *_TEXTS)
# A longer line is no row that anybody meant, and would be held in memory whole.
_LONGEST_LINE = 1 << 26
# A text file is one document up to here; a larger one is cut where a line ends.
_LONGEST_TEXT = 1 << 23
_TABLE_ROWS = 256


@dataclass(frozen=True, slots=True)
class Row:
    """``values``: the columns; a text file is one row with the column ``text``. ``place``: file
    and line, or the number of the row in a Parquet file, counted from 1; for messages."""

    values: Mapping[str, Any]
    place: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that could not be used, and why."""

    place: str
    reason: str


def find_data(paths: Sequence[str | Path]) -> list[Path]:
    """The files that ``paths`` name, in order and each once; a folder stands for those below it
    that are not hidden, a pattern (``shards/*.parquet``) for those that it matches, a data set
    (``hf:org/name``) for the file that it is fetched to."""
    found: dict[Path, Path] = {}
    for name in paths:
        path = hub_file(str(name)) if is_hub_name(str(name)) else Path(name)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if _is_data(p.relative_to(path)))
            inside = [p for p in inside if p.is_file()]
        elif path.is_file():
            inside = [path]
        else:
            matched = sorted(map(Path, glob.glob(str(name), recursive=True)))
            inside = [p for p in matched if p.is_file()]
        if not inside:
            raise NotFoundError(
                f"there is no data at {shown(str(name))}",
                hint=f"give files or folders of {', '.join(_SUFFIXES)}; or hf:NAME, a data set of"
                " Hugging Face",
                param="data",
            )
        for file in inside:
            if not file.name.endswith(_SUFFIXES):
                raise NotFoundError(
                    f"{file} is none of {', '.join(_SUFFIXES)}",
                    hint="write it as one of these, JSON Lines for instance",
                    param="data",
                )
            found.setdefault(file.resolve(), file)
    return list(found.values())


def _is_data(path: Path) -> bool:
    return path.name.endswith(_SUFFIXES) and not any(p.startswith(".") for p in path.parts)


class Rows:
    """The rows of ``files`` in order; iterate again to read them again. ``done`` and ``total``:
    bytes read so far, and of all files. ``file``: which is being read, as a place in ``files``.

    `StoreError` where a file cannot be opened or the disk fails.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = tuple(files)
        self.done = self.file = 0
        self.total = sum(_size(path) for path in self.files)

    def __iter__(self) -> Iterator[Row | BadRow]:
        before = 0
        for place, path in enumerate(self.files):
            self.file = place
            try:
                with path.open("rb") as raw:
                    for row in _rows(path, raw):
                        self.done = min(before + raw.tell(), self.total)
                        yield row
                    before += raw.seek(0, os.SEEK_END)
            except OSError as error:
                raise store_error(error, path, "reading") from error
            self.done = before


def _rows(path: Path, raw: BinaryIO) -> Iterator[Row | BadRow]:
    if path.name.endswith(_TABLES):
        yield from _table(path, raw)
    elif path.name.endswith(_TEXTS):
        yield from _text(path, raw)
    elif path.suffix == ".gz":
        yield from _json_lines(path, gzip.GzipFile(fileobj=raw))  # type: ignore[arg-type]
    else:
        yield from _json_lines(path, raw)


def _json_lines(path: Path, file: BinaryIO) -> Iterator[Row | BadRow]:
    number = 0
    while True:
        number += 1
        place = f"{path}:{number}"
        try:
            line = file.readline(_LONGEST_LINE)
            is_cut = len(line) == _LONGEST_LINE and not line.endswith(b"\n")
            while is_cut and len(rest := file.readline(_LONGEST_LINE)) == _LONGEST_LINE:
                if rest.endswith(b"\n"):
                    break
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            yield BadRow(place, f"the compressed file cannot be read on: {error}")
            return
        if not line:
            return
        if is_cut:
            yield BadRow(place, f"the line has more than {_LONGEST_LINE} bytes")
        elif line.strip():
            yield _parsed(line, place)


def _parsed(line: bytes, place: str) -> Row | BadRow:
    try:
        values = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return BadRow(place, f"not UTF-8, at byte {error.start} of the line")
    except (ValueError, RecursionError) as error:
        return BadRow(place, f"not JSON: {error}")
    if not isinstance(values, dict):
        return BadRow(place, f"{shown(values)} is not an object")
    return Row(values, place)


def _text(path: Path, file: BinaryIO) -> Iterator[Row | BadRow]:
    """One row, or for a large file several, none of which cuts a line."""
    line, rest = 1, b""
    while data := file.read(_LONGEST_TEXT):
        if len(data) < _LONGEST_TEXT and not rest and line == 1:
            yield _decoded(data, str(path))
            return
        block = rest + data
        cut = block.rfind(b"\n") + 1 or block.rfind(b" ") + 1 or len(block)
        block, rest = block[:cut], block[cut:]
        yield _decoded(block, f"{path}:{line}")
        line += block.count(b"\n")
    if rest:
        yield _decoded(rest, f"{path}:{line}")


def _decoded(data: bytes, place: str) -> Row | BadRow:
    try:
        return Row({"text": data.removeprefix(codecs.BOM_UTF8).decode()}, place)
    except UnicodeDecodeError as error:
        return BadRow(place, f"not UTF-8, at byte {error.start}")


def _table(path: Path, raw: BinaryIO) -> Iterator[Row | BadRow]:
    arrow, parquet = require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")
    number = 0
    try:
        for batch in parquet.ParquetFile(raw).iter_batches(batch_size=_TABLE_ROWS):
            for values in batch.to_pylist():
                number += 1
                yield Row(values, f"{path}:{number}")
    except (arrow.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's, not the library's
        yield BadRow(f"{path}:{number + 1}", f"the Parquet file cannot be read on: {error}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise store_error(error, path, "reading") from error
