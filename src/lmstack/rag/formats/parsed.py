"""What a parser takes and gives: limits of what is read, the parsed file, places on its pages.

Data only, so that who shows them loads no parser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lmstack.core import Config, check_range
from lmstack.rag.documents import Block, Page, ProblemError, Section
from lmstack.rag.filters import Value

__all__ = ["Box", "LoadConfig", "PageBoxes", "Parsed", "too_long"]


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
