"""Text that is written piece by piece, with its blocks and headings.

For formats whose text is extracted (DOCX, mail, notebooks): blocks stand apart by a blank line.
"""

from __future__ import annotations

from collections.abc import Sequence

from lmstack.rag.documents import Block, BlockKind, Section
from lmstack.rag.formats.limits import LoadConfig, too_long
from lmstack.rag.formats.markdown import sections_from_headings

__all__ = ["TextWriter", "table_row", "table_text"]


class TextWriter:
    """Grows a text; `ProblemError` when it is longer than ``config.max_text_chars``."""

    def __init__(self, config: LoadConfig) -> None:
        self.blocks: list[Block] = []
        self.headings: list[tuple[int, int, str]] = []
        self.length = 0
        self._parts: list[str] = []
        self._config = config

    def put(self, text: str) -> None:
        self.length += len(text)
        if self.length > self._config.max_text_chars:
            raise too_long(self._config)
        self._parts.append(text)

    def block(self, kind: BlockKind, text: str, *, joint: str = "\n\n") -> None:
        """Add a block, or lengthen the last one where ``joint`` is a single line end."""
        if not text.strip():
            return
        start = self.length
        if self.length:
            self.put(joint)
            start += len(joint)
        self.put(text)
        last = self.blocks[-1] if self.blocks else None
        if joint == "\n" and last and last.kind == kind:
            self.blocks[-1] = Block(kind, last.start, self.length, last.header)
        else:
            self.blocks.append(Block(kind, start, self.length))

    def heading(self, level: int, text: str) -> None:
        if text.strip():
            self.block("heading", text)
            self.headings.append((self.blocks[-1].start, level, " ".join(text.split())))

    def table(self, rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
        """Rows as ``| a | b |``, one a line; the first names the columns if ``header``."""
        text, first = table_text(rows)
        if text:
            self.block("table", text)
            block = self.blocks[-1]
            if header and len(rows) > 1:
                span = block.start, block.start + first
                self.blocks[-1] = Block("table", block.start, block.end, span)

    def text(self) -> str:
        return "".join(self._parts)

    def sections(self) -> list[Section]:
        return sections_from_headings(self.headings, self.length)


def table_row(cells: Sequence[str]) -> str:
    """``| a | b |`` on one line; a bar within a cell is escaped."""
    shown = (" ".join(cell.split()).replace("|", "\\|") for cell in cells)
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in shown)


def table_text(rows: Sequence[Sequence[str]]) -> tuple[str, int]:
    """The lines of a table and the length of the first; empty if no cell holds text."""
    lines = [table_row(row) for row in rows if any(cell.strip() for cell in row)]
    return "\n".join(lines), len(lines[0]) if lines else 0
