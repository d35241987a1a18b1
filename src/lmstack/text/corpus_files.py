"""Texts to train a vocabulary on: files, patterns and streams as blocks of whole lines.

A block ends where a line ends and the next does not begin with a space, so that no run of spaces
and line ends, which may become a token, is cut. Nothing is held but the block being read. Bytes
that are no UTF-8 become U+FFFD. Does not cover documents in other formats.
"""

from __future__ import annotations

import codecs
import glob
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from lmstack.core import NotFoundError, shown
from lmstack.core.files import store_error

__all__ = ["TextCorpus", "find_files"]

_BLOCK = 1 << 16
_MOST_LEFT = 1 << 22


class TextCorpus:
    """Iterate over it once. ``done`` and ``total``: bytes read, and of all files (None: a stream
    does not say). ``label``: the file being read."""

    def __init__(self, files: Sequence[Path] = (), stream: BinaryIO | None = None) -> None:
        self.files = tuple(files)
        self.done = 0
        self.label = ""
        self._stream = stream
        self.total: int | None = None
        if stream is None:
            self.total = sum(_size(path) for path in self.files)

    def __iter__(self) -> Iterator[str]:
        if self._stream is not None:
            self.label = "standard input"
            yield from self._blocks(self._stream)
        for path in self.files:
            self.label = path.name
            try:
                with path.open("rb") as handle:
                    yield from self._blocks(handle)
            except OSError as error:
                raise store_error(error, path, "reading") from error

    def _blocks(self, handle: BinaryIO) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = ""
        while data := handle.read(_BLOCK):
            self.done += len(data)
            rest += decoder.decode(data)
            cut = _last_cut(rest)
            if cut:
                yield rest[:cut]
                rest = rest[cut:]
        rest += decoder.decode(b"", final=True)
        if rest:
            yield rest


def find_files(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and patterns (``**`` is any folder) name, in order and each once. A
    folder stands for the ``.txt`` and ``.md`` files below it."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in (".txt", ".md"))
        elif path.exists():
            inside = [path]
        else:
            names = sorted(glob.glob(pattern, recursive=True))
            inside = [match for name in names if (match := Path(name)).is_file()]
        if not inside:
            raise NotFoundError(
                f"there is no file {shown(pattern)}",
                hint="give text files, folders of .txt and .md files, or patterns in quotes",
                param="files",
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def _last_cut(text: str) -> int:
    """After the last line end that no space follows; 0 if there is none yet."""
    end = len(text)
    while (at := text.rfind("\n", 0, end)) >= 0:
        if at + 1 < len(text) and not text[at + 1].isspace():
            return at + 1
        end = at
    return len(text) if len(text) > _MOST_LEFT else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise store_error(error, path, "reading") from error
