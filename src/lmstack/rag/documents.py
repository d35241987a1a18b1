"""What a loader makes of a file: text, its blocks and sections, and where the file's trouble is.

Every offset in this module and in the whole of `lmstack.rag` counts Unicode characters (code
points, as Python does) of `Document.text`. Covers the data only, and the limits of what is read,
so that who shows them loads no parser: `load` reads files, `chunk` cuts documents.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from lmstack.core import Config, FormatError, check_range
from lmstack.rag.filters import Value

__all__ = [
    "Block",
    "BlockKind",
    "Box",
    "Document",
    "Format",
    "LoadConfig",
    "Page",
    "PageBoxes",
    "Parsed",
    "Problem",
    "ProblemError",
    "ProblemKind",
    "Section",
    "page_of",
    "too_long",
]

Format = Literal[
    "text", "markdown", "html", "pdf", "docx", "email", "csv", "jsonl", "code", "notebook"
]
BlockKind = Literal["heading", "paragraph", "list", "code", "table", "quote", "matter"]
ProblemKind = Literal[
    "absent",
    "access",
    "binary",
    "closed",
    "empty",
    "encoding",
    "encrypted",
    "ending",
    "failed",
    "folder",
    "format",
    "memory",
    "name",
    "pattern",
    "removed",
    "scanned",
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
    """A piece that is better not cut: ``text[start:end]``. Blocks do not overlap.

    ``header`` is, for a table or a row of one, where the names of its columns stand:
    ``text[header[0]:header[1]]``, inside the block or before it."""

    kind: BlockKind
    start: int
    end: int
    header: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """``text[start:end]`` is what stands on page ``number``, counted from 1. Pages ascend and do
    not overlap; one without text has ``start == end``."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Document:
    """``text`` is, for text, Markdown, CSV, JSON lines and source code, exactly the file decoded
    as UTF-8: a byte-order mark stays as its first character and line ends stay as they are, so
    that offsets are those of ``Path.read_bytes().decode()``. For other formats it is the
    extracted text.

    ``pages`` is empty for formats without pages. ``fields`` is what filters may ask for beside
    what the index itself knows (`lmstack.rag.filters`): dates as ISO 8601 text, lists as tuples.
    ``language`` is an ISO 639-1 code, empty where it could not be told.
    """

    path: str
    text: str
    format: Format
    title: str
    sections: tuple[Section, ...]
    blocks: tuple[Block, ...]
    pages: tuple[Page, ...] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
    language: str = ""


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


class ProblemError(Exception):
    """Carries a `Problem` from where it is found to where files are told apart."""

    def __init__(self, kind: ProblemKind, message: str, hint: str) -> None:
        super().__init__(message)
        self.kind, self.message, self.hint = kind, message, hint

    def at(self, path: str) -> Problem:
        return Problem(path, self.kind, self.message, self.hint)


def page_of(pages: tuple[Page, ...], offset: int) -> int | None:
    """The number of the page on which the character at ``offset`` stands; None without pages."""
    number = bisect_right(pages, offset, key=lambda page: page.start)
    return pages[number - 1].number if number else None


@dataclass(frozen=True)
class LoadConfig(Config):
    """``max_file_bytes``: larger files are reported and skipped. 20 MB of prose is ten times
    the Bible; what is larger is a log or a mistake.

    The rest bounds what a file may unfold into, whatever its own size: ``max_unpacked_bytes``
    of an archive's entries or a mail's parts together, ``max_text_chars`` of extracted text,
    ``max_pages`` and ``max_depth`` of things in things (mails in mails, tables in cells)."""

    max_file_bytes: int = 20_000_000
    max_unpacked_bytes: int = 200_000_000
    max_text_chars: int = 40_000_000
    max_pages: int = 10_000
    max_depth: int = 100

    def __post_init__(self) -> None:
        check_range("max_file_bytes", self.max_file_bytes, 1, 2**30)
        check_range("max_unpacked_bytes", self.max_unpacked_bytes, 1, 2**33)
        check_range("max_text_chars", self.max_text_chars, 1, 2**30)
        check_range("max_pages", self.max_pages, 1, 2**20)
        check_range("max_depth", self.max_depth, 1, 10_000)


def too_long(config: LoadConfig) -> ProblemError:
    """For a file whose text is longer than ``config.max_text_chars``."""
    return ProblemError(
        "size",
        f"unfolds into more than {config.max_text_chars:,} characters",
        "split the file, or raise max_text_chars",
    )


Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PageBoxes:
    """``boxes`` are (left, top, right, bottom) in points from the top left of page ``number``,
    which is ``width`` x ``height`` points as it is shown; in reading order, one for each stretch
    of a line."""

    number: int
    width: float
    height: float
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Parsed:
    """The parts of a `Document` that only its format knows. ``title`` may be empty."""

    text: str
    title: str = ""
    sections: Sequence[Section] = ()
    blocks: Sequence[Block] = ()
    pages: Sequence[Page] = ()
    fields: Mapping[str, Value] = field(default_factory=dict)
