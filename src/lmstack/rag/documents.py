"""What a loader makes of a file: text, its blocks and sections, and where the file's trouble is.

Every offset in this module and in the whole of `lmstack.rag` counts Unicode characters (code
points, as Python does) of `Document.text`. Covers the data only: `load` reads files, `chunk`
cuts documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lmstack.core import FormatError

__all__ = ["Block", "BlockKind", "Document", "Format", "Problem", "ProblemKind", "Section"]

Format = Literal["text", "markdown", "html"]
BlockKind = Literal["heading", "paragraph", "list", "code", "table", "quote", "matter"]
ProblemKind = Literal[
    "absent",
    "binary",
    "closed",
    "empty",
    "encoding",
    "failed",
    "format",
    "name",
    "size",
    "slow",
    "special",
    "symlink",
    "unreadable",
    "vanished",
]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what follows it up to the next heading of any level.

    ``path`` holds the headings from the outermost to this one; the text before the first
    heading is a section with level 0 and an empty path.
    """

    title: str
    level: int
    start: int
    end: int
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Block:
    """A piece that is better not cut: ``text[start:end]``. Blocks do not overlap."""

    kind: BlockKind
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """``text`` is, for text and Markdown, exactly the file decoded as UTF-8: a byte-order mark
    stays as its first character and line ends stay as they are, so that offsets are those of
    ``Path.read_bytes().decode()``. For HTML it is the extracted text."""

    path: str
    text: str
    format: Format
    title: str
    sections: tuple[Section, ...]
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why one file is not in the index; the other files are not affected."""

    path: str
    kind: ProblemKind
    message: str
    hint: str

    def at(self, path: str) -> Problem:
        return Problem(path, self.kind, self.message, self.hint)

    def to_error(self) -> FormatError:
        return FormatError(f"{self.path}: {self.message}", hint=self.hint)
