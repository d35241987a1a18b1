"""Word documents: headings by style or outline level, lists with their labels, tables, notes.

Insertions are part of the text and deletions are not; hidden text, comments, headers and footers
are left out. A table's rows are ``| a | b |`` lines, merged cells leave their place empty. A
footnote follows the paragraph that refers to it. Does not run macros, follow links or read
embedded files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmstack.rag.documents import LoadConfig, Parsed, ProblemError
from lmstack.rag.filters import Value
from lmstack.rag.formats.markdown import TextWriter
from lmstack.rag.formats.ooxml import Archive, Level, Numbering, parse_xml

__all__ = ["parse_docx"]

_W = re.compile(r".*/wordprocessingml(?:/2006)?/main\}")
_HEADING = re.compile(r"heading (\d)$", re.I)
_HIDDEN = frozenset(
    ("del", "moveFrom", "Fallback", "instrText", "delText", "rPrChange", "pPrChange")
)
MAX_LEVEL = 9
MAX_TABLES = 20


@dataclass(slots=True)
class _Style:
    name: str = ""
    parent: str = ""
    outline: int | None = None
    list: tuple[str, int] | None = None


@dataclass(slots=True)
class _Paragraph:
    parts: list[str] = field(default_factory=list)
    style: str = ""
    outline: int | None = None
    number: str | None = None
    depth: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class _Table:
    rows: list[list[str]] = field(default_factory=list)
    # What comes into the last cell, joined once: a cell may have a million paragraphs.
    cell: list[str] = field(default_factory=list)
    span: int = 1
    merged: bool = False
    notes: list[str] = field(default_factory=list)

    def end_cell(self) -> None:
        if self.cell:
            self.rows[-1][-1] = " ".join(filter(None, (self.rows[-1][-1], *self.cell)))
            self.cell = []


def parse_docx(data: bytes, _path: str, config: LoadConfig) -> Parsed:
    """The document in ``data``; raises `ProblemError`."""
    archive = Archive(data, config)
    main = _main_part(archive)
    folder = posixpath.dirname(main)
    styles = _Styles()
    styles.read(archive.read(f"{folder}/styles.xml"))
    lists = _Lists()
    lists.read(archive.read(f"{folder}/numbering.xml"))
    notes = {}
    for kind in ("footnotes", "endnotes"):
        reader = _Notes(config)
        reader.read(archive.read(f"{folder}/{kind}.xml"))
        notes.update({f"{kind}:{key}": " ".join(texts) for key, texts in reader.texts.items()})
    body = _Body(config, styles.styles, Numbering(lists.lists()), notes)
    body.read(archive.read(main))
    title, fields = _properties(archive)
    writer = body.writer
    title = title or body.title or (writer.headings[0][2] if writer.headings else "")
    return Parsed(writer.text(), title, writer.sections(), writer.blocks, fields=fields)


def _main_part(archive: Archive) -> str:
    targets: list[str] = []

    def start(_: str, attributes: Mapping[str, str]) -> None:
        if attributes.get("Type", "").endswith("/officeDocument"):
            targets.append(attributes.get("Target", "").lstrip("/"))

    relations = archive.read("_rels/.rels")
    if relations:
        parse_xml(relations, start, lambda _: None, lambda _: None)
    for name in (*targets, "word/document.xml"):
        if name in archive:
            return name
    raise ProblemError(
        "format", "is an archive, but no Word document", "leave it out, or export it as .docx"
    )


class _Reader:
    """Elements of WordprocessingML by their local names; others by theirs."""

    def read(self, data: bytes) -> None:
        if data:
            parse_xml(data, self._start, self._end, self.text)

    def _start(self, name: str, attributes: Mapping[str, str]) -> None:
        plain = {_W.sub("", key).rpartition("}")[2]: v for key, v in attributes.items()}
        self.start(name.rpartition("}")[2], plain)

    def _end(self, name: str) -> None:
        self.end(name.rpartition("}")[2])

    def start(self, name: str, at: Mapping[str, str]) -> None:
        pass

    def end(self, name: str) -> None:
        pass

    def text(self, text: str) -> None:
        pass


class _Styles(_Reader):
    def __init__(self) -> None:
        self.styles: dict[str, _Style] = {}
        self._style = _Style()
        self._depth = 0

    def start(self, name: str, at: Mapping[str, str]) -> None:
        value = at.get("val", "")
        if name == "style":
            self._style = self.styles.setdefault(at.get("styleId", ""), _Style())
            self._depth = 0
        elif name == "name":
            self._style.name = self._style.name or value
        elif name == "basedOn":
            self._style.parent = value
        elif name == "outlineLvl":
            self._style.outline = _number(value)
        elif name == "ilvl":
            self._depth = _number(value) or 0
        elif name == "numId":
            self._style.list = value, self._depth
            self._depth = 0


class _Lists(_Reader):
    """numbering.xml: abstract lists, and which list stands for which."""

    def __init__(self) -> None:
        self._abstract: dict[str, dict[int, Level]] = {}
        self._concrete: dict[str, str] = {}
        self._levels: dict[int, Level] = {}
        self._level = Level()
        self._number = ""

    def start(self, name: str, at: Mapping[str, str]) -> None:
        value = at.get("val", "")
        if name == "abstractNum":
            self._levels = self._abstract.setdefault(at.get("abstractNumId", ""), {})
        elif name == "lvl":
            self._level = self._levels.setdefault(_number(at.get("ilvl", "")) or 0, Level())
        elif name == "start":
            self._level.start = _number(value) or 0
        elif name == "numFmt":
            self._level.format = value
        elif name == "lvlText":
            self._level.text = value[:40]
        elif name == "num":
            self._number = at.get("numId", "")
            self._levels, self._level = {}, Level()
        elif name == "abstractNumId":
            self._concrete[self._number] = value

    def lists(self) -> dict[str, dict[int, Level]]:
        return {n: self._abstract.get(a, {}) for n, a in self._concrete.items()}


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,6}", text) else None


class _Prose(_Reader):
    """What footnotes and the body have in common: runs of text in paragraphs."""

    def __init__(self) -> None:
        self.paragraphs: list[_Paragraph] = []
        self._hidden = 0
        self._in_text = False
        self._vanish = False

    def start(self, name: str, at: Mapping[str, str]) -> None:
        if name in _HIDDEN or self._hidden:
            self._hidden += 1
            return
        if name == "p":
            self.paragraphs.append(_Paragraph())
        elif name == "t":
            self._in_text = True
        elif name == "r":
            self._vanish = False
        elif name == "vanish":
            self._vanish = at.get("val", "true") not in ("0", "false")
        elif name in ("tab", "br", "cr", "noBreakHyphen"):
            # "tab" in a paragraph's properties is where a stop stands, and has a position.
            if self.paragraphs and "pos" not in at and at.get("type") != "page":
                sign = {"noBreakHyphen": "-", "tab": " "}.get(name, "\n")
                self.paragraphs[-1].parts.append(sign)
        else:
            self.element(name, at)

    def end(self, name: str) -> None:
        if self._hidden:
            self._hidden -= 1
        elif name == "t":
            self._in_text = False
        elif name == "p" and self.paragraphs:
            paragraph = self.paragraphs.pop()
            lines = (" ".join(line.split()) for line in "".join(paragraph.parts).split("\n"))
            self.paragraph(paragraph, "\n".join(filter(None, lines)))
        else:
            self.close(name)

    def text(self, text: str) -> None:
        if self._in_text and not self._hidden and not self._vanish and self.paragraphs:
            self.paragraphs[-1].parts.append(text)

    def element(self, name: str, at: Mapping[str, str]) -> None:
        pass

    def close(self, name: str) -> None:
        pass

    def paragraph(self, paragraph: _Paragraph, text: str) -> None:
        pass


class _Notes(_Prose):
    def __init__(self, config: LoadConfig) -> None:
        super().__init__()
        self.texts: dict[str, list[str]] = {}
        self._open = ""
        self._config = config

    def element(self, name: str, at: Mapping[str, str]) -> None:
        if name in ("footnote", "endnote"):
            self._open = at.get("id", "")

    def paragraph(self, paragraph: _Paragraph, text: str) -> None:
        if text and not paragraph.notes:
            self.texts.setdefault(self._open, []).append(text)


class _Body(_Prose):
    def __init__(
        self,
        config: LoadConfig,
        styles: Mapping[str, _Style],
        numbering: Numbering,
        notes: Mapping[str, str],
    ) -> None:
        super().__init__()
        self.writer = TextWriter(config)
        self.title = ""
        self._styles, self._numbering, self._notes = styles, numbering, notes
        self._tables: list[_Table] = []
        self._numbered_notes: dict[str, int] = {}
        self._in_list = False

    def element(self, name: str, at: Mapping[str, str]) -> None:
        value = at.get("val", "")
        table = self._tables[-1] if self._tables else None
        paragraph = self.paragraphs[-1] if self.paragraphs else None
        if name == "tbl":
            if len(self._tables) >= MAX_TABLES:
                raise ProblemError(
                    "format",
                    f"nests tables more than {MAX_TABLES} deep",
                    "leave it out, or simplify its tables",
                )
            self._tables.append(_Table())
        elif name == "tr" and table:
            table.end_cell()
            table.rows.append([])
        elif name == "tc" and table and table.rows:
            table.end_cell()
            table.rows[-1].append("")
            table.span, table.merged = 1, False
        elif name == "gridSpan" and table:
            table.span = min(_number(value) or 1, 100)
        elif name == "vMerge" and table:
            table.merged = value != "restart"
        elif paragraph is not None:
            self._property(paragraph, name, value, at)

    def _property(
        self, paragraph: _Paragraph, name: str, value: str, at: Mapping[str, str]
    ) -> None:
        if name == "pStyle":
            paragraph.style = value
        elif name == "outlineLvl":
            paragraph.outline = _number(value)
        elif name == "ilvl":
            paragraph.depth = _number(value) or 0
        elif name == "numId":
            paragraph.number = value
        elif name in ("footnoteReference", "endnoteReference"):
            key = f"{name.removesuffix('Reference')}s:{at.get('id', '')}"
            if self._notes.get(key):
                number = self._numbered_notes.setdefault(key, len(self._numbered_notes) + 1)
                paragraph.parts.append(f"[^{number}]")
                paragraph.notes.append(f"[^{number}]: {self._notes[key]}")

    def close(self, name: str) -> None:
        table = self._tables[-1] if self._tables else None
        if name == "tc" and table and table.rows:
            table.end_cell()
            table.rows[-1].extend([""] * (table.span - 1))
        elif name == "tbl" and table:
            table.end_cell()
            self._tables.pop()
            if self._tables:
                cells = "; ".join(", ".join(filter(None, row)) for row in table.rows)
                self._into_cell(self._tables[-1], cells)
                self._tables[-1].notes += table.notes
            else:
                width = max(map(len, table.rows), default=0)
                rows = [row + [""] * (width - len(row)) for row in table.rows]
                self.writer.table([row for row in rows if any(row)])
                self._add_notes(table.notes)

    def _into_cell(self, table: _Table, text: str) -> None:
        if text and table.rows and table.rows[-1] and not table.merged:
            table.cell.append(text)

    def paragraph(self, paragraph: _Paragraph, text: str) -> None:
        level, number, depth = self._standing(paragraph)
        label = ""
        if text and number not in (None, "0"):
            label = self._numbering.label(number or "", depth)
        labelled = f"{label} {text}" if label else text
        if self._tables:
            self._into_cell(self._tables[-1], labelled)
            self._tables[-1].notes += paragraph.notes
            return
        item = bool(label) and level is None
        if level is not None:
            self.writer.heading(level + 1, labelled if label != "-" else text)
            if self._named(paragraph.style).lower() == "title" and not self.title:
                self.title = " ".join(text.split())
        elif item:
            joint = "\n" if self._in_list else "\n\n"
            self.writer.block("list", "  " * min(depth, 9) + labelled, joint=joint)
        else:
            self.writer.block("paragraph", text)
        self._in_list = (item or (self._in_list and not text)) and not paragraph.notes
        self._add_notes(paragraph.notes)

    def _add_notes(self, notes: list[str]) -> None:
        for note in notes:
            self.writer.block("paragraph", note)

    def _named(self, style: str) -> str:
        return self._styles[style].name if style in self._styles else style

    def _standing(self, paragraph: _Paragraph) -> tuple[int | None, str | None, int]:
        """Outline level (from 0), list and depth in it: the paragraph's own or its style's."""
        level, number, depth = paragraph.outline, paragraph.number, paragraph.depth
        style, seen = paragraph.style, 0
        while style in self._styles and seen < 20:
            known = self._styles[style]
            heading = _HEADING.match(known.name)
            if level is None and heading:
                level = int(heading.group(1)) - 1
            if level is None and known.name.lower() == "title":
                level = 0
            level = known.outline if level is None else level
            if number is None and known.list:
                number, depth = known.list[0], known.list[1]
            style, seen = known.parent, seen + 1
        if not self._styles and (match := re.match(r"Heading ?(\d)$", paragraph.style)):
            level = int(match.group(1)) - 1
        # Level 9 is Word's "body text".
        return (level if level is not None and 0 <= level < MAX_LEVEL else None), number, depth


_PROPERTIES = {
    "title": "title",
    "creator": "author",
    "subject": "subject",
    "keywords": "tags",
    "created": "date",
    "modified": "modified",
    "version": "version",
}


def _properties(archive: Archive) -> tuple[str, dict[str, Value]]:
    """Title and fields from docProps/core.xml."""
    found: dict[str, str] = {}
    open_: list[str] = []

    def text(value: str) -> None:
        if open_:
            found[open_[-1]] = (found.get(open_[-1], "") + value)[:10_000]

    data = archive.read("docProps/core.xml")
    if data:
        parse_xml(
            data,
            lambda name, _: open_.append(name.rpartition("}")[2]),
            lambda _: None if not open_ else (open_.pop(), None)[1],
            text,
        )
    fields: dict[str, Value] = {}
    for key, name in _PROPERTIES.items():
        value = " ".join(found.get(key, "").split())
        if not value or name == "title":
            continue
        if name == "tags":
            fields[name] = tuple(t for t in re.split(r"\s*[,;]\s*", value) if t)
        else:
            fields[name] = value[:10] if name in ("date", "modified") else value
    return " ".join(found.get("title", "").split()), fields
