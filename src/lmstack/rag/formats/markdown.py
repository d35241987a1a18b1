"""The structure of Markdown and plain text as spans of the unchanged text.

Covers CommonMark block structure and pipe tables through markdown-it (whose tokens carry line
numbers). Inline markup is left as it is: a quote shows
what the file says. A file of very many very short lines is no prose that its author wrote, and
each of its lines would cost the parser as much as a page's; it is read as plain text.

`TextWriter` writes text of extracted formats (DOCX, mail, notebooks) piece by piece, with its
blocks and headings; blocks stand apart by a blank line.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence

from markdown_it import MarkdownIt
from markdown_it.token import Token

from lmstack.rag.documents import Block, BlockKind, LoadConfig, Section, too_long
from lmstack.rag.formats.matter import matter_span

__all__ = [
    "TextWriter",
    "markdown_structure",
    "sections_from_headings",
    "table_text",
    "text_structure",
]


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


_KINDS: dict[str, BlockKind] = {
    "heading_open": "heading",
    "paragraph_open": "paragraph",
    "bullet_list_open": "list",
    "ordered_list_open": "list",
    "fence": "code",
    "code_block": "code",
    "table_open": "table",
    "blockquote_open": "quote",
    "html_block": "paragraph",
}
_MARKUP = re.compile(r"[*_`]+|!?\[([^\]]*)\]\([^)]*\)")
_INHABITED_LINE = re.compile(r"\S[^\r\n]*")
# Lists count twice. What is nested deeper becomes part of the block around it; each level reads
# all lines once more.
MAX_NESTING = 30
MAX_HEADING = 300
# More lines (or headings) than the first number must have the second number of characters each.
FEW_LINES = 20_000
MIN_LINE_LENGTH = 20


def line_starts(text: str) -> list[int]:
    """Offset of the start of each line, counting line ends as markdown-it does."""
    return [0, *(match.end() for match in re.finditer(r"\r\n|\n|\r", text))]


def text_structure(text: str) -> tuple[str, list[Section], list[Block]]:
    """Title (none), one section and paragraphs split at blank lines."""
    blocks: list[Block] = []
    start: int | None = None
    offset = 0
    for line in text.splitlines(keepends=True):
        if not line.isspace():
            start = offset if start is None else start
        elif start is not None:
            blocks.append(Block("paragraph", start, offset))
            start = None
        offset += len(line)
    if start is not None:
        blocks.append(Block("paragraph", start, offset))
    return "", [Section("", 0, 0, len(text))], blocks


def markdown_structure(text: str) -> tuple[str, list[Section], list[Block]]:
    """Title (the first heading), sections and top-level blocks; front matter is one of them."""
    body_start = matter_span(text)[0]
    starts = line_starts(text)
    if len(_INHABITED_LINE.findall(text)) > max(FEW_LINES, len(text) // MIN_LINE_LENGTH):
        return text_structure(text)
    first_line = bisect_right(starts, body_start) - 1 if body_start else 0
    # A byte-order mark would keep the first heading from being seen as one; a space is as long.
    body = text[body_start:].replace("\ufeff", " ", 1)
    parser = MarkdownIt("commonmark", {"maxNesting": MAX_NESTING}).enable("table").disable("inline")
    tokens = parser.parse(body)
    blocks: list[Block] = []
    headings: list[tuple[int, int, str]] = []
    if body_start:
        blocks.append(Block("matter", 0, body_start))
    for token, inline in _top_level(tokens):
        assert token.map is not None
        start = max(starts[first_line + token.map[0]], body_start)
        last = first_line + token.map[1]
        end = starts[last] if last < len(starts) else len(text)
        kind = _KINDS.get(token.type, "paragraph")
        blocks.append(Block(kind, start, end))
        if kind == "heading":
            title = _MARKUP.sub(lambda m: m.group(1) or "", inline[:MAX_HEADING]).strip()
            headings.append((start, int(token.tag[1:]), title))
    title = headings[0][2] if headings else ""
    return title, sections_from_headings(headings, len(text)), blocks


def _top_level(tokens: Sequence[Token]) -> Iterator[tuple[Token, str]]:
    """Block tokens that no other block holds, each with the inline text that follows it."""
    for index, token in enumerate(tokens):
        if token.level == 0 and token.map and token.nesting >= 0 and token.type != "inline":
            following = tokens[index + 1] if index + 1 < len(tokens) else None
            yield token, following.content if following and following.type == "inline" else ""


def sections_from_headings(headings: Sequence[tuple[int, int, str]], length: int) -> list[Section]:
    """``headings`` are (start, level, title) in order; the result covers 0 to ``length``. One
    section if the headings head nothing."""
    if len(headings) > max(FEW_LINES, length // MIN_LINE_LENGTH):
        headings = ()
    sections: list[Section] = []
    if not headings or headings[0][0] > 0:
        sections.append(Section("", 0, 0, headings[0][0] if headings else length))
    above: list[tuple[int, str]] = []
    for number, (start, level, title) in enumerate(headings):
        end = headings[number + 1][0] if number + 1 < len(headings) else length
        above = [(other, name) for other, name in above if other < level] + [(level, title)]
        sections.append(Section(title, level, start, end, tuple(name for _, name in above)))
    return sections
