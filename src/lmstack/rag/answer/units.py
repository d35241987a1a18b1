"""What of a passage can be quoted: the smallest pieces that say something by themselves.

A unit is a sentence, an item of a list, a row of a table, a line of a record (a log, a list of
settings, an address), or a block of code. Headings are units too, where a quotation ends. Covers
the shape of the text, in any language; which units answer a question is `quoting`'s.

Rows of CSV files and records of JSON lines are shown with the names of their columns, which may
stand far above a passage and so come from the document. A unit is still a span of the file.
"""

from __future__ import annotations

import csv
import json
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import Any, Literal
from unicodedata import east_asian_width

from lmstack.rag.documents import Block, Document
from lmstack.rag.sentences import Run, line_runs, split_prose

__all__ = ["ENDED", "Unit", "UnitKind", "read_matter", "read_rows", "read_units", "shown"]

DELIMITERS = ",;\t|"


def read_rows(document: Document, start: int, end: int) -> list[Unit]:
    """Of ``document.text[start:end]``; offsets count from ``start``. Rows of one table share a
    block, each record of JSON lines has its own."""
    units = []
    first = bisect_right(document.blocks, start, key=lambda block: block.end)
    for n, block in enumerate(islice(document.blocks, first, None), first):
        left, right = max(block.start, start), min(block.end, end)
        if left >= end:
            break
        if not document.text[left:right].strip():
            continue
        whole = (left, right) == (block.start, block.end)
        said = _said(document, block) if whole else ""
        number = n if document.format == "jsonl" else 0
        kind: UnitKind = "row" if said or _is_header(document, block) else "line"
        units.append(Unit(left - start, right - start, kind, number, said=said))
    return units


def _is_header(document: Document, block: Block) -> bool:
    return document.format == "csv" and block.header == (block.start, block.end)


def _said(document: Document, block: Block) -> str:
    text = document.text[block.start : block.end]
    if document.format == "jsonl":
        try:
            return "; ".join(_pairs(json.loads(text)))
        except (ValueError, RecursionError):
            return ""
    if block.header is None or _is_header(document, block):
        return ""
    names = _row_cells(document.text[slice(*block.header)])
    cells = _row_cells(text, _delimiter(document.text[slice(*block.header)]))
    if len(names) != len(cells):
        return ""
    return "; ".join(f"{name}: {cell}" for name, cell in zip(names, cells, strict=True) if cell)


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=header.count)


def _row_cells(row: str, delimiter: str | None = None) -> list[str]:
    try:
        cells = next(csv.reader([row], delimiter=delimiter or _delimiter(row)), [])
    except csv.Error:
        return []
    return [" ".join(cell.split()) for cell in cells]


def _pairs(value: Any, name: str = "") -> Iterator[str]:
    """``name: value`` of each member, ``outer.inner: value`` of those within."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _pairs(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
        for each in value:
            yield from _pairs(each, name)
    else:
        values = value if isinstance(value, list) else [value]
        text = ", ".join(" ".join(_cell_text(each).split()) for each in values)
        if text:
            yield f"{name}: {text}" if name else text


def _cell_text(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


UnitKind = Literal["sentence", "item", "row", "line", "code", "heading"]
Span = tuple[int, int]
# Longer code is read line by line.
MAX_CODE = 400
# Characters of a line of running text, where there are too few lines to see it.
USUAL_WIDTH, FEW = 60, 4
# Of a sentence, with what may close it.
ENDED = re.compile(r"[.!?…。！？][\"')\]»”’*_`]*$")
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_LINE = re.compile(r"^[^\n]*\S", re.M)
_CELL = re.compile(r"(?<!\\)\|")
# Of an ordered list, before its item.
_NUMBER = re.compile(r"(?:^|\n)[ \t>]*(\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?$")
LONGEST_MARKER = 60
# Characters of the line below a table's header, and of the marks of a quotation around it.
_RULING = "|:-=+ \t>\n"


@dataclass(frozen=True, slots=True)
class Unit:
    """``text[start:end]``. Units of one paragraph, item, table, record or fence share a
    ``block``. ``header``: where the row that names a row's cells is, None for other kinds and for
    that row itself. ``said``: how a row is shown that its text does not say by itself."""

    start: int
    end: int
    kind: UnitKind
    block: int
    header: Span | None = None
    said: str = ""


def read_units(text: str, *, by_lines: bool = False) -> list[Unit]:
    """Units of Markdown, plain or extracted text, in order. ``by_lines``: the text is code or data
    from its first line to its last."""
    if by_lines:
        return list(_lines(text))
    units: list[Unit] = []
    block = 0
    kind, ended, header = "", 0, (0, 0)
    for start, end, now in line_runs(text):
        joined = kind == now and _goes_on(text[ended:start], now)
        block += not joined
        if now == "row":
            header = header if joined else (start, end)
            units.append(_stripped(text, start, end, "row", block, header if joined else None))
        elif now == "code" and joined and units and units[-1].kind == "code":
            units[-1] = _stripped(text, units[-1].start, end, "code", block)
        elif now == "code":
            units.append(_stripped(text, start, end, "code", block))
        elif now == "heading":
            units.append(_stripped(text, start, end, "heading", block))
        else:
            units += _prose(text, (start, end, now), block)
        kind, ended = now, end
    return [part for unit in units for part in _short(text, unit) if part.start < part.end]


def read_matter(text: str, start: int, end: int) -> list[Unit]:
    """Lines of the front matter that is ``text[start:end]``, without those that bound it."""
    lines = [(match.start(), match.end()) for match in _LINE.finditer(text, start, end)]
    return [Unit(a, b, "line", -1) for a, b in lines if text[a:b].strip(_RULING)]


def _goes_on(between: str, kind: str) -> bool:
    """Whether a fence or a table goes on after ``between``: in a table that may be the line that
    rules its header off, and a blank line ends it."""
    if kind == "code":
        return not between.strip(" \t>\n")
    ruling, newline, _ = between.partition("\n")
    ruled = not newline or "-" in ruling or "=" in ruling
    return kind == "row" and ruled and between.count("\n") < 2 and not between.strip(_RULING)


def _lines(text: str) -> Iterator[Unit]:
    """Of code; what stands together without an empty line is a block."""
    block, ended = 0, 0
    for match in _LINE.finditer(text):
        block += text.count("\n", ended, match.start()) > 1
        ended = match.end()
        yield Unit(match.start(), match.end(), "code", block)


def _prose(text: str, run: Run, block: int) -> Iterator[Unit]:
    start, end, kind = run
    lines = [(start + m.start(), start + m.end()) for m in _LINE.finditer(text[start:end])]
    if _are_records([text[a:b].strip() for a, b in lines]):
        spans: Sequence[Span] = lines
        named: UnitKind = "line"
    else:
        spans = split_prose(text, start, end)
        named = "item" if kind == "item" else "sentence"
    for left, right in spans:
        comment = re.match(r"(?:<!--.*?-->\s*)+", text[left:right], re.S)
        left += comment.end() if comment else 0
        if left < right and not text.startswith("<!--", left):
            yield _stripped(text, left, right, named, block)


def _are_records(lines: Sequence[str]) -> bool:
    """Whether each of ``lines`` stands for itself. Running text goes on in the next line where a
    word no longer fits, most often with a small letter; records end where they end. Lines that all
    end as sentences do are running text with a sentence on each line. How wide a text is cannot be
    seen from a few lines, and of a script with small letters need not be: hardly a line of its
    running text begins with a large one."""
    if len(lines) < 2 or all(map(ENDED.search, lines)):
        return False
    few = len(lines) < FEW or any(map(str.islower, "".join(lines)))
    width = max([*map(_columns, lines), *([USUAL_WIDTH] if few else [])])
    ended = sum(
        _columns(line) + 1 + _columns(_first_word(following)) <= width
        and not following[0].islower()
        for line, following in pairwise(lines)
    )
    return 2 * ended > len(lines) - 1


def _first_word(line: str) -> str:
    """Scripts of wide characters (Chinese, Japanese) break lines between any two of them."""
    return line[0] if _columns(line[0]) > 1 else line.split(None, 1)[0]


def _columns(text: str) -> int:
    """How wide ``text`` is on a page, in letters."""
    if text.isascii():
        return len(text)
    return len(text) + sum(east_asian_width(c) in "WF" for c in text)


def _short(text: str, unit: Unit) -> Iterator[Unit]:
    if unit.kind != "code" or unit.end - unit.start <= MAX_CODE:
        yield unit
        return
    for match in _LINE.finditer(text[unit.start : unit.end]):
        start, end = unit.start + match.start(), unit.start + match.end()
        yield Unit(start, end, "code", unit.block)


def _stripped(
    text: str, start: int, end: int, kind: UnitKind, block: int, header: Span | None = None
) -> Unit:
    """Without white space at its ends; code keeps the indentation of its first line."""
    piece = text[start:end]
    left = 0 if kind == "code" else len(piece) - len(piece.lstrip())
    return Unit(start + left, max(start + left, start + len(piece.rstrip())), kind, block, header)


def shown(text: str, units: Sequence[Unit]) -> str:
    """Neighbouring ``units`` of ``text`` as an answer shows them: a paragraph on one line, items,
    rows and records on a line each, code in its lines within a fence. An empty line parts two
    records."""
    parts: list[str] = []
    before = ""
    for group in _blocks(text, units):
        first = group[0]
        texts = [_plain(text[unit.start : unit.end]) for unit in group]
        if first.kind == "code":
            code = text[first.start : group[-1].end]
            parts.append(code.strip() if "\n" not in code.strip() else f"```\n{code.rstrip()}\n```")
        elif first.kind in ("row", "line"):
            lines = _rows(text, group) if first.kind == "row" else texts
            listed = lines if len(units) == 1 else [f"- {line}" for line in lines]
            parts.append(("\n" if first.kind == before == "line" else "") + "\n".join(listed))
        elif first.kind == "item" and len(units) > len(group):
            number = _NUMBER.search(text, max(0, first.start - LONGEST_MARKER), first.start)
            parts.append(" ".join([number[1] if number else "-", *texts]))
        else:
            parts.append(" ".join(texts))
        before = first.kind
    return "\n".join(part for part in parts if part)


def _blocks(text: str, units: Sequence[Unit]) -> list[list[Unit]]:
    """Units of one block, and all code that only empty lines part."""
    groups: list[list[Unit]] = []
    for unit in units:
        last = groups[-1][-1] if groups else None
        code = last is not None and last.kind == unit.kind == "code"
        if last and (
            last.block == unit.block or (code and not text[last.end : unit.start].strip())
        ):
            groups[-1].append(unit)
        else:
            groups.append([unit])
    return groups


def _rows(text: str, rows: Sequence[Unit]) -> list[str]:
    """Cells named by the header; of a row with two cells these alone, a name and its value."""
    header = next((row.header for row in rows if row.header), None)
    names = _cells(text[header[0] : header[1]]) if header else []
    lines = []
    for row in rows:
        cells = _cells(text[row.start : row.end])
        filled = [cell for cell in cells if cell]
        if row.said:
            lines.append(row.said)
        elif row.header is None:
            if len(rows) == 1:
                lines.append(" | ".join(filled))
        elif len(filled) == len(cells) == 2:
            lines.append(": ".join(filled))
        else:
            pairs = zip([*names, *[""] * len(cells)], cells, strict=False)
            lines.append(
                "; ".join(f"{name}: {cell}" if name else cell for name, cell in pairs if cell)
            )
    return lines


def _cells(line: str) -> list[str]:
    return [_plain(cell) for cell in _CELL.split(line.strip().strip("|"))]


def _plain(text: str) -> str:
    return " ".join(_COMMENT.sub(" ", text).split())
