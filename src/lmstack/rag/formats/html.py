"""HTML to text with structure: what a reader of the page would read, in document order.

Covers entity decoding (by the parser), block layout (paragraphs apart, list items marked), data
tables as ``| a | b |`` rows, ``pre`` kept as it is, the sections of API references (a signature
heads what describes it), and what the head says of the page. Drops scripts, styles, templates,
forms' controls and boilerplate (`boilerplate`). Does not run scripts or fetch anything.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from lmstack.core import FormatError
from lmstack.rag.documents import Block, BlockKind, Parsed
from lmstack.rag.filters import Value
from lmstack.rag.formats.boilerplate import Content, find_content
from lmstack.rag.formats.markdown import sections_from_headings, table_text
from lmstack.rag.formats.matter import normalized

__all__ = ["read_html"]

MAX_DEPTH = 2000
MAX_TITLE = 120
MAX_COLSPAN = 50
BULLET = "- "


def _tags(names: str) -> frozenset[str]:
    return frozenset(names.split())


_DROPPED = _tags(
    "script style noscript template head svg math iframe object embed canvas audio video "
    "select button input textarea dialog"
)
_BLOCKS: dict[str, BlockKind] = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "heading"),
    **dict.fromkeys(("ul", "ol", "dl"), "list"),
    "pre": "code",
    "blockquote": "quote",
}
_BREAKING = _tags(
    "address article aside body caption center details div dd dt fieldset figcaption figure "
    "footer form header hgroup hr html legend li main nav ol p section summary table tbody td "
    "tfoot th thead tr ul dl h1 h2 h3 h4 h5 h6 blockquote pre"
)
# Tags whose end may be left out: counting them as open would refuse flat pages.
_UNCLOSED = _tags(
    "area base br col embed hr img input link meta source track wbr p li dt dd option optgroup "
    "tr td th thead tbody tfoot colgroup html head body rb rt rp"
)
# Stops at the next "<" whatever comes, so that it stays linear on hostile input.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)(?:[^<>]*(/)>)?")
_SPAN = re.compile(r"\d{1,4}")
_SPACE = re.compile(r"[ \t\n\r\f\v]+")
_META = {
    "author": "author",
    "dc.creator": "author",
    "article:author": "author",
    "date": "date",
    "dc.date": "date",
    "dcterms.created": "date",
    "article:published_time": "date",
    "article:modified_time": "modified",
    "dcterms.modified": "modified",
    "last-modified": "modified",
    "keywords": "tags",
    "description": "description",
    "og:description": "description",
    "version": "version",
}


def read_html(source: str) -> Parsed:
    """The text of a page; `FormatError` when it is nested too deep."""
    _refuse_deep(source)
    tree = LexborHTMLParser(source)
    writer = _Writer()
    if tree.body is not None:
        content = find_content(tree)
        writer = _written(tree, content)
        if not writer.text().strip() and content.skip:
            writer = _written(tree, content.whole(tree.body))
    text = writer.text()
    return Parsed(
        text,
        _title(tree, writer.headings),
        sections_from_headings(writer.headings, len(text)),
        writer.blocks,
        fields=_fields(tree),
    )


def _title(tree: Any, headings: Sequence[tuple[int, int, str]]) -> str:
    """The title without the name of the site, where the first heading says which part that is."""
    node = tree.css_first("title")
    title = _SPACE.sub(" ", node.text()).strip() if node is not None else ""
    first = headings[0][2] if headings else ""
    return first if not title or (first and title.startswith(first)) else title


def _fields(tree: Any) -> dict[str, Value]:
    found: dict[str, object] = {}
    for node in tree.css("meta[content]")[:200]:
        at = node.attributes
        name = (at.get("name") or at.get("property") or at.get("http-equiv") or "").lower()
        if name in _META and (at.get("content") or "").strip():
            found.setdefault(_META[name], at["content"])
    root = tree.css_first("html[lang]")
    if root is not None:
        found["lang"] = root.attributes.get("lang") or ""
    return normalized(found)


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
        self.headings: list[tuple[int, int, str]] = []
        self._parts: list[str] = []
        self._length = 0
        self._pending = ""
        self._block_start: int | None = None
        self._first_part = 0
        self._heading: tuple[int, str] = (0, "")
        self._resumed: tuple[int, str] | None = None

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
            self._first_part = len(self._parts)
        self._put(text)

    def line_break(self, lines: int) -> None:
        """At least ``lines`` line ends before whatever comes next."""
        last = self._parts[-1] if self._parts else ""
        if last == BULLET:  # a paragraph in an item begins on the item's line
            return
        lines -= len(last) - len(last.rstrip("\n")) if last.endswith("\n") else 0
        if self._length and lines > len(self._pending):
            self._pending = "\n" * lines

    def end_block(self, kind: BlockKind) -> None:
        if self._block_start is not None and self._block_start < self._length:
            if self._resumed and kind != "heading":
                self.headings.append((self._block_start, *self._resumed))
            self._resumed = None
            self.blocks.append(Block(kind, self._block_start, self._length))
        self._block_start = None

    def end_heading(self, level: int) -> None:
        start = self._block_start
        if start is not None and start < self._length:
            title = " ".join("".join(self._parts[self._first_part :]).split())
            self._heading = level, title
            self.headings.append((start, level, title))

    def signature(self, text: str, depth: int) -> None:
        """A heading, ``depth`` below the last one of the page; alone on its line."""
        self.end_block("paragraph")
        # Two signatures in a row head the same description.
        alone = not self.blocks or self.blocks[-1].kind != "heading" or not self._in_signature()
        self.line_break(2)
        self.write(text)
        # Attributes of a class are too small for sections of their own.
        if alone and self._block_start is not None and (depth == 1 or "(" in text):
            name = text.partition("(")[0]
            title = (name if name == text else f"{name.rstrip()}()")[:MAX_TITLE]
            self.headings.append((self._block_start, self._heading[0] + depth, title))
        self.end_block("heading")
        self.line_break(2)

    def _in_signature(self) -> bool:
        return bool(self.headings) and self.headings[-1][1:] != self._heading

    def resume(self) -> None:
        """What follows belongs to the last heading of the page again."""
        if self._in_signature() and self._heading[0]:
            self._resumed = self._heading

    def table(self, text: str, header: int) -> None:
        """A table of its own, its first ``header`` characters naming the columns."""
        self.line_break(2)
        self.write(text, verbatim=True)
        start = self._block_start
        self.end_block("table")
        if header and start is not None:
            self.blocks[-1] = Block("table", start, self._length, (start, start + header))
        self.line_break(2)

    def _flush(self) -> None:
        if self._pending:
            self._put(self._pending)
            self._pending = ""

    def _put(self, text: str) -> None:
        self._parts.append(text)
        self._length += len(text)


class _Page:
    """What the walk must know of elements beyond their tags."""

    def __init__(self, tree: Any, content: Content) -> None:
        self.skip = content.skip
        self.signatures = {n.mem_id for n in tree.css("dl > dt.sig")}
        self.references = {n.parent.mem_id for n in tree.css("dl > dt.sig")}
        self.layout = content.layout

    def is_structural(self, node: Any) -> bool:
        return node.tag in _BLOCKS and node.mem_id not in self.references


def _written(tree: Any, content: Content) -> _Writer:
    writer = _Writer()
    _walk(content.root, writer, _Page(tree, content))
    return writer


def _walk(root: Any, writer: _Writer, page: _Page) -> None:
    """Depth first without recursion: pages are nested deeper than Python's stack."""
    node, outer, verbatim, described = root, 0, 0, 0
    while node is not None:
        tag = node.tag
        if node.mem_id in page.skip:
            pass
        elif node.is_text_node:
            writer.write(node.text_content or "", verbatim=verbatim > 0)
        elif node.is_element_node and tag not in _DROPPED:
            if node.mem_id in page.signatures:
                writer.signature(_flat(node, page.skip), described)
            elif tag == "table" and node.mem_id not in page.layout:
                _write_table(node, writer, page, outer)
            elif not _is_blank_anchor(node):
                outer += _enter(node, writer, outer, page)
                described += node.mem_id in page.references
                verbatim += tag == "pre"
                if node.child is not None:
                    node = node.child
                    continue
                outer, verbatim, described = _up(node, writer, page, outer, verbatim, described)
        if node.mem_id == root.mem_id:
            return
        while node.next is None:
            node = node.parent
            if node is None:
                return
            outer, verbatim, described = _up(node, writer, page, outer, verbatim, described)
            if node.mem_id == root.mem_id:
                return
        node = node.next


def _is_blank_anchor(node: Any) -> bool:
    """A place to jump to, filled with a space so that old browsers find it."""
    if node.tag != "a" or node.child is None or "href" in node.attributes:
        return False
    return not (node.text() or "").strip()


def _up(
    node: Any, writer: _Writer, page: _Page, outer: int, verbatim: int, described: int
) -> tuple[int, int, int]:
    """Leave ``node``; how deep the walk is in blocks, in ``pre`` and in API descriptions."""
    outer -= _leave(node, writer, outer, page)
    if node.mem_id in page.references:
        described -= 1
        if not described:
            writer.resume()
    return outer, verbatim - (node.tag == "pre"), described


def _enter(node: Any, writer: _Writer, outer: int, page: _Page) -> int:
    """Lay out the start of an element; 1 when it opens a structural block (or nests in one)."""
    tag = node.tag
    if tag in _BREAKING:
        if not outer:
            writer.end_block("paragraph")
        inner = outer and tag in ("li", "tr", "dt", "dd")
        writer.line_break(1 if inner else 2 - (outer > 0))
    if tag == "li":
        writer.write(BULLET, verbatim=True)
    elif tag == "br":
        writer.line_break(1)
    return int(page.is_structural(node))


def _leave(node: Any, writer: _Writer, outer: int, page: _Page) -> int:
    tag = node.tag
    structural = page.is_structural(node)
    if structural and outer == 1:
        if _BLOCKS[tag] == "heading":
            writer.end_heading(int(tag[1]))
        writer.end_block(_BLOCKS[tag])
    elif tag in _BREAKING and not outer:
        writer.end_block("paragraph")
    if tag in _BREAKING:
        writer.line_break(1 if outer > structural else 2)
    return int(structural)


def _flat(element: Any, skip: frozenset[int]) -> str:
    """The text of an element on one line."""
    parts: list[str] = []
    node = element.child
    while node is not None:
        if node.is_text_node:
            parts.append(node.text_content or "")
        elif node.is_element_node and node.tag not in _DROPPED and node.mem_id not in skip:
            if node.tag == "br" or node.tag in _BREAKING:
                parts.append(" ")
            if node.child is not None:
                node = node.child
                continue
        while node.next is None:
            node = node.parent
            if node is None or node.mem_id == element.mem_id:
                return " ".join("".join(parts).split())
        node = node.next
    return " ".join("".join(parts).split())


def _write_table(table: Any, writer: _Writer, page: _Page, outer: int) -> None:
    rows: list[list[str]] = []
    headed = False
    for row in table.css("tr"):
        cells: list[str] = []
        names = 0
        for cell in row.css("td, th"):
            cells.append("" if cell.mem_id in page.skip else _flat(cell, page.skip))
            names += cell.tag == "th"
            span = cell.attributes.get("colspan") or ""
            cells += [""] * (min(int(span), MAX_COLSPAN) - 1 if _SPAN.fullmatch(span) else 0)
        if any(cells):
            headed = headed or (not rows and names > 1)
            rows.append(cells)
    text, first = table_text(rows)
    caption = table.css_first("caption")
    titled = _flat(caption, page.skip) if caption is not None else ""
    if outer:  # a row of a list: its block is the list
        writer.line_break(1)
        writer.write("\n".join(filter(None, (titled, text))), verbatim=True)
        writer.line_break(1)
        return
    writer.end_block("paragraph")
    if titled:
        writer.line_break(2)
        writer.write(titled)
        writer.end_block("paragraph")
    if text:
        writer.table(text, first if headed and len(rows) > 1 else 0)
