"""Rows of data files: JSONL, JSON, CSV and YAML, from a path or from bytes, gzipped or not.

A file may be held to a SHA-256; what is not what it should be is an error that names the file and
the line. Not covered: where files come from (`packages` names packages that carry them) and what
their fields mean (each benchmark's own module).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, IntegrityError, NotFoundError, shown
from lmstack.core.yaml_text import parse_yaml

__all__ = [
    "DataFile",
    "Row",
    "csv_rows",
    "file_bytes",
    "file_text",
    "json_rows",
    "text_field",
    "yaml_file",
]

DataFile = Path | bytes
Row = Mapping[str, Any]
_GZIP = b"\x1f\x8b"


def file_bytes(file: DataFile, sha256: str = "") -> bytes:
    """The bytes of ``file``, unpacked where they are gzipped. ``sha256``: of the file as it is."""
    name = _name(file)
    if isinstance(file, bytes):
        data = file
    else:
        try:
            data = file.read_bytes()
        except OSError as error:
            raise NotFoundError(
                f"{name} cannot be read: {error.strerror or error}", hint="check the path"
            ) from error
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise IntegrityError(
            f"{name} has the SHA-256 {found}, not {sha256}",
            hint="fetch the file again; another version of it gives other scores",
        )
    if data.startswith(_GZIP):
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise FormatError(f"{name} is not gzip: {error}", hint="fetch it again") from error
    return data


def json_rows(file: DataFile, sha256: str = "", *, within: str = "") -> list[Row]:
    """Of a JSONL file, one object a line, or of a JSON file: a list of objects, or with ``within``
    an object that holds such a list under that name."""
    name, text = _name(file), file_text(file, sha256)
    try:
        whole = json.loads(text)
    except ValueError:
        return [_json_line(line, f"{name}:{n}") for n, line in _lines(text)]
    if within and isinstance(whole, dict) and within in whole:
        whole = whole[within]
    if isinstance(whole, dict):
        whole = [whole]  # a JSONL file of one line
    if not isinstance(whole, list) or not all(isinstance(row, dict) for row in whole):
        raise FormatError(f"{name} holds no list of objects", hint="write one object a line")
    return whole


def csv_rows(file: DataFile, sha256: str = "", *, names: Sequence[str] = ()) -> list[Row]:
    """Of a CSV file, by the names in its first line, or by ``names`` where it has no such line."""
    name, text = _name(file), file_text(file, sha256)
    reader = csv.DictReader(io.StringIO(text, newline=""), names or None)
    try:
        rows: list[Row] = list(reader)
    except csv.Error as error:
        raise FormatError(f"{name}:{reader.line_num} is not CSV: {error}") from error
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise FormatError(
                f"row {number} of {name} has not as many fields as there are columns",
                hint="quote fields that hold commas or line breaks",
            )
    return rows


def yaml_file(file: DataFile, sha256: str = "") -> Row:
    """The mapping that a YAML file is."""
    name = _name(file)
    found = parse_yaml(file_text(file, sha256), name)
    if not isinstance(found, dict):
        raise FormatError(f"{name} is {shown(found)}, not a mapping", hint="key: value, by line")
    return found


def text_field(row: Row, name: str, where: str) -> str:
    """The text under ``name``; `InputError` that says ``where`` it is missing."""
    value = row.get(name)
    if not isinstance(value, str):
        raise InputError(
            f"{where} has {shown(value)} under {shown(name)}, not text",
            hint=f"its fields are {', '.join(map(str, row))}",
            param=name,
        )
    return value


def _name(file: DataFile) -> str:
    return "the data" if isinstance(file, bytes) else str(file)


def file_text(file: DataFile, sha256: str = "") -> str:
    """The bytes of ``file`` as UTF-8."""
    try:
        return file_bytes(file, sha256).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(
            f"{_name(file)} is not UTF-8, at byte {error.start}", hint="save it as UTF-8"
        ) from error


def _lines(text: str) -> list[tuple[int, str]]:
    # Not splitlines: U+2028 and its like may stand inside of JSON texts.
    return [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]


def _json_line(line: str, where: str) -> Row:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{where} is not JSON: {error}", hint="one object a line") from error
    if not isinstance(found, dict):
        raise FormatError(f"{where} is {shown(found)}, not an object", hint="one object a line")
    return found
