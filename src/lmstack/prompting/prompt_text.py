"""What stands in a prompt's file and in those beside it: text, front matter, rows.

Covers sizes, encodings and places: a prompt reads no file outside of its folder. Does not cover
what the settings mean (`prompt_file`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lmstack.core import FormatError, InputError, NotFoundError, shown
from lmstack.core.files import store_error
from lmstack.core.json_text import parse_json
from lmstack.core.yaml_text import parse_yaml

__all__ = ["file_beside", "read_lines", "read_schema", "read_values"]

_ROLE = re.compile(r"(system|user|assistant):[ \t]*")
_MOST_BYTES, _MOST_EXAMPLES_BYTES = 1 << 20, 1 << 26


def read_values(path: Path) -> Mapping[str, Any]:
    """The settings in the prompt file ``path``, its ``turns`` among them."""
    text = _text(path, _MOST_BYTES, "prompt")
    values = _markdown(text, path) if path.suffix == ".md" else parse_yaml(text, str(path))
    if not isinstance(values, Mapping):
        raise FormatError(f"{path} holds {shown(values)}, not settings", hint="key: value, by line")
    return values


def read_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects in a file of them, a line each, and where each stands."""
    for number, line in enumerate(_text(path, _MOST_EXAMPLES_BYTES, "file").split("\n"), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            row = parse_json(line)
        except ValueError as error:
            raise FormatError(f"{place} is not JSON: {error}", hint="one object a line") from error
        if not isinstance(row, dict):
            raise FormatError(f"{place} holds {shown(row)}, not an object")
        yield place, row


def read_schema(path: Path) -> Mapping[str, Any]:
    """The JSON Schema in a file."""
    try:
        schema = parse_json(_text(path, _MOST_BYTES, "file"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}") from error
    if not isinstance(schema, Mapping):
        raise FormatError(f"{path} holds {shown(schema)}, not a JSON Schema")
    return schema


def file_beside(path: Path, name: str) -> Path:
    """The file ``name`` in the folder of ``path`` or below it."""
    folder = path.parent.resolve()
    found = (folder / name).resolve()
    if not found.is_relative_to(folder):
        raise InputError(
            f"{shown(name)} is outside of the prompt's folder",
            hint="a prompt reads files beside it and below that",
        )
    return found


def _markdown(text: str, path: Path) -> dict[str, Any]:
    """The front matter, with the turns of the text below it."""
    lines = text.split("\n")
    ends = [n for n, line in enumerate(lines[1:], 1) if line.rstrip() == "---"]
    if lines[0].rstrip() != "---" or not ends:
        raise FormatError(
            f"{path} has no front matter",
            hint="begin it with a line ---, the settings, and another line ---",
        )
    values = parse_yaml("\n".join(["", *lines[1 : ends[0]]]), str(path)) or {}
    if not isinstance(values, dict):
        raise FormatError(f"{path} holds {shown(values)} as its front matter, not settings")
    if "turns" in values:
        raise FormatError(f"{path} has turns in its front matter", hint="write them below it")
    turns: list[dict[str, str]] = []
    for line in lines[ends[0] + 1 :]:
        if match := _ROLE.fullmatch(line):
            turns.append({"role": match[1], "text": ""})
            continue
        if not turns:
            turns.append({"role": "user", "text": ""})
        if line.startswith("\\") and _ROLE.fullmatch(line[1:]):
            line = line[1:]
        turns[-1]["text"] += line + "\n"
    if len(turns) > 1 and turns[0]["role"] == "user" and not turns[0]["text"].strip():
        del turns[0]  # blank lines before the first role
    return {**values, "turns": turns}


def _text(path: Path, most: int, what: str) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except FileNotFoundError:
        raise NotFoundError(f"there is no {what} {path}", hint="check the path") from None
    except OSError as error:
        raise store_error(error, path, "reading") from error
    if len(data) > most:
        raise FormatError(f"{path} has more than {most} bytes", hint="make it smaller")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path} is not UTF-8 text (byte {error.start})") from error
