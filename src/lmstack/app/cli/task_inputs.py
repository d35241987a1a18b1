"""Where `lmstack run` reads from and writes to: lines of a file, JSON lines, standard input.

An input a line: text, or in a .jsonl file a JSON text or object. Results go to standard output
or to a file, one JSON line each, flushed as they come; a file that was interrupted is gone on
with after its last whole line. Does not cover what a task does with an input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, Any, Self

from lmstack.core import FormatError, InputError, NotFoundError, StoreError, shown

__all__ = ["ResultFile", "count_lines", "read_inputs", "read_whole"]

STDIN = Path("-")


def read_inputs(path: Path) -> Iterator[Any]:
    """An input a line, read as they are asked for. In the place of a line that cannot be read
    stands the error that says why: it is no reason to lose the lines around it."""
    with _opened(path) as lines:
        for number, line in enumerate(lines, 1):
            yield _input_of(line, path, number)


def read_whole(path: Path) -> str:
    """All of a file as one text."""
    with _opened(path) as lines:
        return _decoded(lines.read(), path, 1)


def count_lines(path: Path) -> int | None:
    """How many inputs a file holds; None where that is not known beforehand."""
    if path == STDIN or not path.is_file():
        return None
    count, last = 0, b"\n"
    with _opened(path) as lines:
        while block := lines.read(1 << 20):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")


class ResultFile:
    """JSON lines that are written as results come. ``done``: results that were there already."""

    def __init__(self, path: Path | None, *, resume: bool) -> None:
        self.path = path
        self.done = 0
        self._file: IO[bytes] | None = None
        if path is None:
            return
        try:
            if resume and path.exists():
                self._file = path.open("r+b")
                self.done = self._cut_partial_line(self._file)
            else:
                self._file = path.open("wb")
        except OSError as error:
            raise InputError(
                f"{path} cannot be written: {(error.strerror or 'refused').lower()}",
                hint="choose another file: --output FILE",
                param="output",
            ) from error

    def write(self, value: Any) -> None:
        """One line, on disk before the next one is computed."""
        text = json.dumps(value, ensure_ascii=False)
        if self._file is None:
            raise RuntimeError("no file to write to")
        try:
            self._file.write(text.encode() + b"\n")
            self._file.flush()
        except OSError as error:
            # Closing writes what is left once more, and fails once more.
            with suppress(OSError):
                self._file.close()
            raise StoreError(
                f"{self.path} cannot be written: {(error.strerror or 'refused').lower()}",
                hint="make room there, then run the command again with --resume",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @staticmethod
    def _cut_partial_line(file: IO[bytes]) -> int:
        """Whole lines in the file; what comes after the last of them is cut off."""
        count = end = 0
        while line := file.readline():
            if not line.endswith(b"\n"):
                break
            count, end = count + 1, file.tell()
        file.seek(end)
        file.truncate()
        return count


def _opened(path: Path) -> AbstractContextManager[IO[bytes]]:
    if path == STDIN:
        return nullcontext(sys.stdin.buffer)
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise NotFoundError(
            f"there is no file {shown(str(path))}", hint="check the path", param="file"
        ) from None
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {(error.strerror or 'refused').lower()}",
            hint="check the path",
            param="file",
        ) from error


def _input_of(line: bytes, path: Path, number: int) -> Any:
    try:
        text = _decoded(line, path, number).removesuffix("\n").removesuffix("\r")
        return _parsed(text, path, number) if path.suffix in (".jsonl", ".ndjson") else text
    except FormatError as error:
        return error


def _decoded(data: bytes, path: Path, number: int) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(
            f"line {number} of {_name(path)} is not UTF-8 (byte 0x{data[error.start]:02x})",
            hint="convert it: iconv -f latin1 -t utf-8 FILE",
            param="file",
        ) from None


def _parsed(text: str, path: Path, number: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError(
            f"line {number} of {_name(path)} is no JSON: {error}",
            hint='a text in quotes or an object a line: {"text": "..."}',
            param="file",
        ) from None


def _name(path: Path) -> str:
    return "standard input" if path == STDIN else str(path)
