"""HTML to text with structure: what a reader of the page would read, in document order.

Covers entity decoding (by the parser), block layout (paragraphs apart, list items marked, cells
apart), ``pre`` kept as it is; drops scripts, styles, templates, forms' controls and navigation.
Does not run scripts, fetch anything, or judge boilerplate beyond the tags that declare it.
"""

from __future__ import annotations

import re
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from lmstack.core import FormatError
from lmstack.rag.documents import Block, BlockKind, Section
from lmstack.rag.formats.markdown import sections_from_headings

__all__ = ["html_structure"]

MAX_DEPTH = 2000


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_DROPPED = _tags(
    "script style noscript template nav head svg math iframe object embed canvas audio video "
    "select button input textarea dialog"
)
_BLOCKS: dict[str, BlockKind] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    **dict.fromkeys(("ul", "ol", "dl"), "list"),
    "pre": "code",
    "table": "table",
    "blockquote": "quote",
}
_BREAKING = _tags(
    "address article aside body caption center details div dd dt fieldset figcaption figure "
    "footer form header hgroup hr html legend li main ol p section summary table tbody tfoot "
    "thead tr ul dl h1 h2 h3 h4 h5 h6 blockquote pre"
)
# Tags whose end may be left out: counting them as open would refuse flat pages.
_UNCLOSED = _tags(
    "area base br col embed hr img input link meta source track wbr p li dt dd option optgroup "
    "tr td th thead tbody tfoot colgroup html head body rb rt rp"
)
# Stops at the next "<" whatever comes, so that it stays linear on hostile input.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)(?:[^<>]*(/)>)?")
_SPACE = re.compile(r"[ \t\n\r\f\v]+")


def html_structure(source: str) -> tuple[str, str, list[Section], list[Block]]:
    """Text, title, sections and blocks of a page; `FormatError` when it is nested too deep."""
    _refuse_deep(source)
    tree = LexborHTMLParser(source)
    writer = _Writer()
    if tree.body is not None:
        _walk(tree.body, writer)
    text = writer.text()
    headings = [
        (start, level, _SPACE.sub(" ", text[start:end]).strip())
        for start, end, level in writer.headings
    ]
    node = tree.css_first("title")
    title = _SPACE.sub(" ", node.text()).strip() if node is not None else ""
    if not title and headings:
        title = headings[0][2]
    return text, title, sections_from_headings(headings, len(text)), writer.blocks


def _refuse_deep(source: str) -> None:
    """The parser needs time quadratic in the depth: 200,000 open tags take two minutes."""
    depth = 0
    for match in _TAG.finditer(source):
        closing, name, void = match.groups()
        name = name.lower()
        # "<path/>" is closed inside SVG and costs nothing elsewhere; "<div/>" is an open div.
        if name in _UNCLOSED or (void and name not in _BREAKING):
            continue
        depth += -1 if closing else 1
        depth = max(depth, 0)
        if depth > MAX_DEPTH:
            raise FormatError(
                f"HTML elements are nested more than {MAX_DEPTH} deep",
                hint="convert the page to plain text or Markdown first",
            )


class _Writer:
    """Gathers text; knows where blocks begin and end. Only outermost blocks are recorded."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.headings: list[tuple[int, int, int]] = []
        self._parts: list[str] = []
        self._length = 0
        self._pending = ""
        self._block_start: int | None = None

    def text(self) -> str:
        self.end_block("paragraph")
        return "".join(self._parts)

    def write(self, text: str, *, verbatim: bool = False) -> None:
        if not verbatim:
            text = _SPACE.sub(" ", text)
            if self._pending or not self._parts or self._parts[-1].endswith((" ", "\n")):
                text = text.lstrip(" ")
        if not text:
            return
        self._flush()
        if self._block_start is None:
            self._block_start = self._length
        self._put(text)

    def line_break(self, lines: int) -> None:
        """At least ``lines`` line ends before whatever comes next."""
        if self._length and lines > len(self._pending):
            self._pending = "\n" * lines

    def end_block(self, kind: BlockKind) -> None:
        if self._block_start is not None and self._block_start < self._length:
            self.blocks.append(Block(kind, self._block_start, self._length))
        self._block_start = None

    def end_heading(self, level: int) -> None:
        start = self._block_start
        if start is not None and start < self._length:
            self.headings.append((start, self._length, level))

    def _flush(self) -> None:
        if self._pending:
            self._put(self._pending)
            self._pending = ""

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


def _walk(body: Any, writer: _Writer) -> None:
    """Depth first without recursion: pages are nested deeper than Python's stack."""
    node, outer, verbatim = body, 0, 0
    while node is not None:
        tag = node.tag
        if node.is_text_node:
            writer.write(node.text_content or "", verbatim=verbatim > 0)
        elif node.is_element_node and tag not in _DROPPED:
            outer += _enter(tag, writer, outer)
            verbatim += tag == "pre"
            if node.child is not None:
                node = node.child
                continue
            outer -= _leave(tag, writer, outer)
            verbatim -= tag == "pre"
        while node is not None and node.next is None:
            node = node.parent
            if node is None or node.mem_id == body.mem_id:
                return
            outer -= _leave(node.tag, writer, outer)
            verbatim -= node.tag == "pre"
        node = node.next if node is not None else None


def _enter(tag: str, writer: _Writer, outer: int) -> int:
    """Lay out the start of an element; 1 when it opens a structural block (or nests in one)."""
    structural = tag in _BLOCKS
    if tag in _BREAKING and not outer:
        writer.end_block("paragraph")
    if tag in _BREAKING:
        writer.line_break(1 if outer and tag in ("li", "tr", "dt", "dd") else 2 - (outer > 0))
    if tag == "li":
        writer.write("- ", verbatim=True)
    elif tag == "br":
        writer.line_break(1)
    return int(structural)


def _leave(tag: str, writer: _Writer, outer: int) -> int:
    structural = tag in _BLOCKS
    if tag in ("td", "th"):
        writer.write(" | ")
    if structural and outer == 1:
        if _BLOCKS[tag] == "heading":
            writer.end_heading(int(tag[1]))
        writer.end_block(_BLOCKS[tag])
    elif tag in _BREAKING and not outer:
        writer.end_block("paragraph")
    if tag in _BREAKING:
        writer.line_break(1 if outer > structural else 2)
    return int(structural)
