"""PDF to text as it is read: pages, paragraphs, headings by size, ruled tables.

A word that was cut at the end of a line is joined again, unless the document writes it with a
hyphen elsewhere, both halves are words of it, the first half begins compounds ("forty-"), or the
document hardly ever cuts words. Headers, footers and page numbers that go
through the pages are left out after their first appearance. Pages in the file are pages of the
document; one that cannot be read, or holds only a picture, is named in ``fields``. Every
character of the text knows the character of the page it was made from (`Composed`). Does not
recognise text in pictures, follow links or read forms.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from lmstack.rag.documents import Block, BlockKind, Box, LoadConfig, Page, Parsed, ProblemError
from lmstack.rag.filters import Value
from lmstack.rag.formats.layout import find_furniture, lines_and_tables
from lmstack.rag.formats.lines import Line, in_reading_order, same_row
from lmstack.rag.formats.markdown import sections_from_headings
from lmstack.rag.formats.pdfium import open_pdf, properties, read_page

__all__ = ["PdfSheet", "compose", "extract", "parse_pdf"]

# Larger than the text by this factor is a heading, if it is short.
HEADING_RATIO = 1.15
HEADING_CHARS, HEADING_ROWS, MAX_LEVEL = 200, 3, 6
# Rows further apart than this many usual distances are two paragraphs.
PARTED = 1.35
# Rows whose left ends are no further apart, one after the other, share a right margin.
SAME_COLUMN = 36.0
# A document that cuts words cuts so many of its lines; fewer are compounds that met the margin.
CUT_LINES, LONG_LINE = 0.015, 30
_ITEM = re.compile(r"(?:[•◦▪‣●○■·*–-]|\(?(?:\d{1,3}|[a-zA-Z])[.)])\s+\S")
_END = re.compile(r"[.!?:;…。！？][\"')\]»”’]*$")
_WORD = re.compile(r"[^\W\d_]+(?:[-\u2010][^\W\d_]+)*")
_LAST_WORD = re.compile(r"([^\W\d_]+)[-\u2010]$")
_FIRST_WORD = re.compile(r"[^\W\d_]+")
_LEADERS = re.compile(r"(?:\. ?){5,}|(?:\. ){2,}")
_FIRST_PARTS = """
    all anti co cross eight eighty ex far fifty five forty four free full half high large long low
    mid multi near nine ninety non one open part post pre real self semi seven seventy short single
    six sixty small sub ten thirty three twenty two well
"""
_COMPOUNDING = frozenset(_FIRST_PARTS.split())
_NO_TITLE = re.compile(
    r"untitled|microsoft (word|powerpoint)|.*\.(docx?|indd|tex|dvi|pdf|rtf)$", re.I
)


@dataclass(slots=True)
class PdfSheet:
    """One page before its lines are joined."""

    number: int
    height: float
    lines: list[Line]
    readable: bool = True
    images: bool = False


@dataclass(slots=True)
class Extracted:
    sheets: list[PdfSheet]
    properties: dict[str, str]


@dataclass(slots=True)
class Composed:
    """``origins[n]`` holds, for page n + 1 and each character of it in ``text``, the index of
    the character of the page, or -1 for one that joins others. Empty unless asked for."""

    text: str
    blocks: list[Block]
    headings: list[tuple[int, int, str]]
    pages: list[Page]
    origins: list[list[int]]


def parse_pdf(data: bytes, _path: str, config: LoadConfig) -> Parsed:
    """The document in ``data``; raises `ProblemError`."""
    extracted = extract(data, config)
    _check_text(extracted)
    composed = compose(extracted)
    title = extracted.properties.get("title", "")
    if _NO_TITLE.match(title):
        title = ""
    first = min(composed.headings[:5], key=lambda h: h[1], default=None)
    title = title or (first[2] if first else "")
    return Parsed(
        composed.text,
        title,
        sections_from_headings(composed.headings, len(composed.text)),
        composed.blocks,
        composed.pages,
        _fields(extracted),
    )


def extract(data: bytes, config: LoadConfig, *, trace: bool = False) -> Extracted:
    """Lines of every page in reading order; without ``trace`` they forget their origin."""
    room = config.max_text_chars
    sheets: list[PdfSheet] = []
    with open_pdf(data, config) as pdf:
        for number in range(1, pdf.count + 1):
            page = read_page(pdf, number, room, config)
            if page is None:
                sheets.append(PdfSheet(number, 0.0, [], readable=False))
                continue
            room -= len(page.codes)
            lines = in_reading_order(lines_and_tables(page))
            if not trace:
                _forget(lines)
            sheets.append(PdfSheet(number, page.height, lines, images=page.images))
        return Extracted(sheets, properties(pdf))


def _forget(lines: Sequence[Line]) -> None:
    for line in lines:
        line.origin = []
        for row in line.cells or ():
            for cell in row:
                _forget(cell)


def _check_text(extracted: Extracted) -> None:
    sheets = extracted.sheets
    if any(sheet.lines for sheet in sheets):
        return
    if not any(sheet.readable for sheet in sheets):
        raise ProblemError(
            "failed", f"none of its {len(sheets)} pages can be read", "export the PDF again"
        )
    if any(sheet.images for sheet in sheets):
        raise ProblemError(
            "scanned",
            f"holds pictures of {len(sheets)} pages and no text",
            "run text recognition first: ocrmypdf IN OUT",
        )


def _fields(extracted: Extracted) -> dict[str, Value]:
    sheets = extracted.sheets
    fields: dict[str, Value] = {
        name: value
        for name, value in extracted.properties.items()
        if name not in ("title", "keywords")
    }
    tags = re.split(r"\s*[,;]\s*", extracted.properties.get("keywords", ""))
    if any(tags):
        fields["tags"] = tuple(tag for tag in tags if tag)
    fields["pages"] = len(sheets)
    failed = tuple(str(sheet.number) for sheet in sheets if not sheet.readable)
    scanned = tuple(str(sheet.number) for sheet in sheets if sheet.images and not sheet.lines)
    if failed:
        fields["pages_failed"] = failed
    if scanned:
        fields["pages_scanned"] = scanned
    return fields


# From lines to text


@dataclass(slots=True)
class _Row:
    """What stands side by side: one line, or pieces of one. ``margin``: how far to the right the
    rows go that begin about where this one does."""

    lines: list[Line]
    box: Box
    margin: float = 0.0

    @property
    def text(self) -> str:
        return " ".join(line.text for line in self.lines)

    @property
    def size(self) -> float:
        return self.lines[0].size

    @property
    def cells(self) -> list[list[list[Line]]] | None:
        return self.lines[0].cells


@dataclass(slots=True)
class _Writer:
    parts: list[str] = field(default_factory=list)
    length: int = 0
    origin: list[int] = field(default_factory=list)

    def put(self, text: str, origin: Sequence[int] = ()) -> None:
        self.parts.append(text)
        self.length += len(text)
        self.origin.extend(origin or [-1] * len(text))

    def drop_last(self) -> None:
        """Take back one character: a hyphen."""
        self.parts[-1] = self.parts[-1][:-1]
        self.length -= 1
        self.origin.pop()


def compose(extracted: Extracted) -> Composed:
    """One text of all pages."""
    sheets = extracted.sheets
    dropped = find_furniture([(sheet.height, sheet.lines) for sheet in sheets])
    words = _vocabulary(sheets)
    sizes = _sizes(sheets)
    writer = _Writer()
    done = Composed("", [], [], [], [])
    for sheet, gone in zip(sheets, dropped, strict=True):
        rows = list(_rows([n for i, n in enumerate(sheet.lines) if i not in gone]))
        start = writer.length
        _set_margins(rows)
        for number, paragraph in enumerate(_paragraphs(rows)):
            joint = "\n\n"
            if number == 0 and done.blocks and done.blocks[-1].kind == "paragraph":
                joint = "\n" if _goes_on(writer.parts[-1], paragraph[0].text) else joint
            if writer.length:
                writer.put(joint)
            if number == 0:
                start = writer.length
            _write(paragraph, writer, done, sizes, words)
        done.pages.append(Page(sheet.number, start, writer.length))
    done.text = "".join(writer.parts)
    done.origins = [writer.origin[page.start : page.end] for page in done.pages]
    return done


def _goes_on(before: str, after: str) -> bool:
    return not _END.search(before) and after[:1].islower()


def _rows(lines: Sequence[Line]) -> Iterator[_Row]:
    open_: _Row | None = None
    for line in lines:
        last = open_.lines[-1] if open_ else None
        beside = (
            last is not None
            and last.cells is None
            and line.cells is None
            and not last.hyphen
            and same_row(last, line)
            and line.box[0] >= last.box[2] - 1
        )
        if open_ is not None and beside:
            open_.lines.append(line)
            a, b = open_.box, line.box
            open_.box = (min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3]))
        else:
            if open_ is not None:
                yield open_
            open_ = _Row([line], line.box)
    if open_ is not None:
        yield open_


def _set_margins(rows: Sequence[_Row]) -> None:
    ordered = sorted(rows, key=lambda row: row.box[0])
    start = 0
    for number, row in enumerate(ordered, 1):
        if number == len(ordered) or ordered[number].box[0] - row.box[0] > SAME_COLUMN:
            column = ordered[start:number]
            margin = max(row.box[2] for row in column)
            for row in column:
                row.margin = margin
            start = number


def _paragraphs(rows: Sequence[_Row]) -> Iterator[list[_Row]]:
    steps = sorted(
        b.box[1] - a.box[1]
        for a, b in pairwise(rows)
        if a.cells is None and b.cells is None and 0 < b.box[1] - a.box[1] < 4 * a.size
    )
    usual = steps[len(steps) // 2] if steps else 0.0
    paragraph: list[_Row] = []
    for row in rows:
        if paragraph and _parted(paragraph, row, usual):
            yield paragraph
            paragraph = []
        paragraph.append(row)
    if paragraph:
        yield paragraph


def _parted(paragraph: Sequence[_Row], row: _Row, usual: float) -> bool:
    last = paragraph[-1]
    if last.cells or row.cells:
        return True
    if abs(last.size - row.size) > 0.12 * max(last.size, row.size):
        return True
    step = row.box[1] - last.box[1]
    if step <= 0:  # the next column
        return not _goes_on(last.text, row.text)
    # Each size of type has its own distance: what is usual for the page counts for its own.
    allowed = PARTED * max(usual, 1.1 * last.size) if usual else 1.6 * last.size
    if step > allowed:
        return True
    left = min(r.box[0] for r in paragraph)
    indented = row.box[0] > left + 0.8 * row.size and len(paragraph) > 1
    return indented and abs(last.box[0] - left) < 2 and bool(_END.search(last.text))


def _write(
    paragraph: Sequence[_Row],
    writer: _Writer,
    done: Composed,
    sizes: Sequence[float],
    words: _Words,
) -> None:
    start = writer.length
    kind: BlockKind = "paragraph"
    header = None
    cells = paragraph[0].cells
    if cells is not None:
        kind = "table"
        header = _write_table(cells, writer, words)
    else:
        _write_rows(paragraph, writer, words)
        text = " ".join(row.text for row in paragraph)
        level = _level(paragraph, text, sizes)
        if level:
            kind = "heading"
            done.headings.append((start, level, text))
        elif all(_ITEM.match(row.text) for row in paragraph[:1]):
            kind = "list"
    if writer.length > start:
        done.blocks.append(Block(kind, start, writer.length, header))


def _level(paragraph: Sequence[_Row], text: str, sizes: Sequence[float]) -> int:
    if len(paragraph) > HEADING_ROWS or len(text) > HEADING_CHARS:
        return 0
    size = min(row.size for row in paragraph)
    if not any(c.isalpha() for c in text) or _LEADERS.search(text):
        return 0
    return next((n for n, s in enumerate(sizes[:MAX_LEVEL], 1) if size >= s - 0.3), 0)


def _write_table(
    cells: Sequence[Sequence[Sequence[Line]]], writer: _Writer, words: _Words
) -> tuple[int, int]:
    """Rows as ``| a | b |``; where the first one stands."""
    first = None
    for row in cells:
        if first is not None:
            writer.put("\n")
        start = writer.length
        writer.put("|")
        for cell in row:
            writer.put(" ")
            if cell:
                _write_rows(list(_rows(cell)), writer, words, tabled=True)
                writer.put(" ")
            writer.put("|")
        first = first or (start, writer.length)
    return first or (0, 0)


def _write_rows(
    rows: Sequence[_Row], writer: _Writer, words: _Words, *, tabled: bool = False
) -> None:
    for number, row in enumerate(rows):
        if number:
            last = rows[number - 1]
            if not _join_word(last, row, writer, words):
                broken = not tabled and _is_broken(last, row)
                writer.put("\n" if broken else " ")
        for index, line in enumerate(row.lines):
            if index:
                writer.put(" ")
            if tabled and "|" in line.text:
                for character, origin in zip(
                    line.text, line.origin or [-1] * len(line.text), strict=True
                ):
                    if character == "|":
                        writer.put("\\")
                    writer.put(character, [origin])
            else:
                writer.put(line.text, line.origin)


def _is_broken(row: _Row, following: _Row) -> bool:
    """Whether ``row`` was ended on purpose: the next word would still have fitted, or the rows
    are those of a table without rules."""
    if len(row.lines) > 1 or len(following.lines) > 1 or _ITEM.match(following.text):
        return True
    text = following.text
    width = (following.box[2] - following.box[0]) / max(len(text), 1)
    word = text.split(" ", 1)[0]
    return row.box[2] + width * (len(word) + 2) < row.margin


@dataclass(frozen=True, slots=True)
class _Words:
    """What is written within lines: words, and words with hyphens, in small letters; and whether
    the document cuts words at the ends of lines at all."""

    whole: frozenset[str]
    hyphenated: frozenset[str]
    cuts: bool = True


def _vocabulary(sheets: Sequence[PdfSheet]) -> _Words:
    whole: set[str] = set()
    hyphenated: set[str] = set()
    cut = False
    cuts = lines = 0
    for sheet in sheets:
        for line in sheet.lines:
            found = _WORD.findall(line.text.lower())
            # Halves of words that were cut are no words.
            begin, cut = int(cut), bool(_LAST_WORD.search(line.text))
            cuts, lines = cuts + cut, lines + (len(line.text) > LONG_LINE)
            for word in found[begin : len(found) - cut]:
                (hyphenated if "-" in word or "\u2010" in word else whole).add(word)
    return _Words(frozenset(whole), frozenset(hyphenated), cuts >= CUT_LINES * lines)


def _join_word(last: _Row, row: _Row, writer: _Writer, words: _Words) -> bool:
    """Join a word that was cut between two rows; False if none was."""
    before = _LAST_WORD.search(last.text)
    after = _FIRST_WORD.match(row.text)
    if not before or not after:
        return False
    a, b = before.group(1).lower(), after.group().lower()
    if not after.group()[0].islower():
        return True  # "S-" and "Plus": joined, with the hyphen
    two = (
        not words.cuts
        or a in _COMPOUNDING
        or f"{a}-{b}" in words.hyphenated
        or (a in words.whole and b in words.whole)
    )
    if a + b in words.whole or not two:
        writer.drop_last()
    return True


def _sizes(sheets: Sequence[PdfSheet]) -> list[float]:
    """Sizes of headings, largest first: those clearly larger than the text's."""
    counts: Counter[float] = Counter()
    for sheet in sheets:
        for line in sheet.lines:
            if line.cells is None:
                counts[round(line.size * 2) / 2] += len(line.text)
    if not counts:
        return []
    body = max(counts, key=lambda size: (counts[size], -size))
    return sorted((s for s in counts if s >= body * HEADING_RATIO), reverse=True)
