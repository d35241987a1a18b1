"""Tables and records as text files: CSV, TSV and JSON lines. The text is the file, unchanged.

A row is a block, and knows where the names of its columns stand; quoted fields may hold line
ends. What is not quite CSV (a quotation mark that never ends) is read line by line. Does not
convert values, nor split a row into cells: citations are spans of the file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from lmstack.rag.documents import Block, ProblemError, Section
from lmstack.rag.filters import Value
from lmstack.rag.formats.decoding import decode_text, read_json
from lmstack.rag.formats.limits import LoadConfig
from lmstack.rag.formats.parsed import Parsed

__all__ = ["parse_json_lines", "parse_table"]

_STOP = re.compile(r'"|\r\n|\n|\r')
_LINE = re.compile(r"[^\r\n]+")
_NUMBER = re.compile(r"[-+]?[\d.,]*\d[%€$£]?")
_DELIMITERS = ",;\t|"
SAMPLE = 20_000
MAX_COLUMNS, MAX_NAME = 200, 200
# JSON is checked on so many lines; the rest of a log is like its beginning.
CHECKED_LINES, CHECKED_CHARS = 20, 1_000_000
Span = tuple[int, int]


def parse_table(data: bytes, path: str, _config: LoadConfig) -> Parsed:
    """CSV with whatever delimiter its first lines have; TSV by its name."""
    text = decode_text(data)
    begin = int(text.startswith("\ufeff"))
    tabbed = os.path.splitext(path)[1].lower() in (".tsv", ".tab")
    delimiter = "\t" if tabbed else _delimiter(text[begin : begin + SAMPLE])
    rows = list(_rows(text, begin, delimiter))
    names = _names(text[slice(*rows[0])], delimiter) if len(rows) > 1 else ()
    header = rows[0] if names else None
    blocks = [Block("table", *row, header) for row in rows]
    fields: dict[str, Value] = {"rows": len(rows) - bool(names)}
    if names:
        fields["columns"] = names
    return Parsed(text, "", [Section("", 0, 0, len(text))], blocks, fields=fields)


def _delimiter(sample: str) -> str:
    """The sign that parts most lines into the same number of fields."""
    lines = [re.sub(r'"[^"]*"', "", line) for line in sample.splitlines()[:20] if line.strip()]

    def regular(sign: str) -> tuple[int, int]:
        counts = [line.count(sign) for line in lines]
        usual = max(counts, key=counts.count, default=0)
        return (counts.count(usual) if usual else 0), usual

    return max(_DELIMITERS, key=regular) if lines else ","


def _rows(text: str, begin: int, delimiter: str) -> Iterator[Span]:
    rows: list[Span] = []
    start, quoted_at = begin, -1
    skip = -1
    for match in _STOP.finditer(text, begin):
        at = match.start()
        if match.group() == '"':
            if quoted_at < 0:
                before = text[at - 1] if at > start else delimiter
                quoted_at = at if before == delimiter or before == " " else -1
            elif at != skip:
                if text.startswith('"', at + 1):
                    skip = at + 1  # a doubled quotation mark stands for one
                else:
                    quoted_at = -1
        elif quoted_at < 0:
            rows.append((start, at))
            start = match.end()
    if quoted_at >= 0:
        # That mark never ended: what follows it are lines.
        rows += [m.span() for m in _LINE.finditer(text, start)]
    else:
        rows.append((start, len(text)))
    return (row for row in rows if text[row[0] : row[1]].strip())


def _names(row: str, delimiter: str) -> tuple[str, ...]:
    """The columns' names, if the first row looks like names: all different, none a number."""
    names = tuple(" ".join(cell.strip().strip('"').split()) for cell in row.split(delimiter))
    if len(names) > MAX_COLUMNS or len(set(names)) < len(names) or len(names) < 2:
        return ()
    sound = all(0 < len(name) <= MAX_NAME and not _NUMBER.fullmatch(name) for name in names)
    return names if sound else ()


def parse_json_lines(data: bytes, _path: str, _config: LoadConfig) -> Parsed:
    """One record a line."""
    text = decode_text(data)
    begin = int(text.startswith("\ufeff"))
    lines = [m.span() for m in _LINE.finditer(text, begin) if m.group().strip()]
    for number, (start, end) in enumerate(lines[:CHECKED_LINES], 1):
        if end - start > CHECKED_CHARS:
            break
        value = read_json(text[start:end], f"record {number}")
        if not isinstance(value, dict | list):
            raise ProblemError(
                "format", f"record {number} is a bare value, no record", "call it .txt"
            )
    blocks = [Block("table", *line) for line in lines]
    return Parsed(text, "", [Section("", 0, 0, len(text))], blocks, fields={"rows": len(lines)})
