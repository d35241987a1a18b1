"""Formats that are text already: source code, CSV, TSV, JSON lines and notebooks.

Of code and tables the text is the file, unchanged. A row is a block, and knows where the names of
its columns stand; quoted fields may hold line ends. What is not quite CSV (a quotation mark that
never ends) is read line by line. Values are not converted and rows not split into cells: citations
are spans of the file. Of a notebook: Markdown cells with their headings, code cells, and their text
outputs, each cut at `MAX_OUTPUT`. Nothing is run.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.rag.documents import Block, LoadConfig, Parsed, ProblemError, Section
from lmstack.rag.filters import Value
from lmstack.rag.formats.decoding import decode_text, read_json
from lmstack.rag.formats.markdown import (
    TextWriter,
    markdown_structure,
    sections_from_headings,
    text_structure,
)

__all__ = ["ENDINGS", "parse_json_lines", "parse_notebook", "parse_source", "parse_table"]

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


MAX_OUTPUT = 10_000
MAX_CELLS = 20_000


def parse_notebook(data: bytes, _path: str, config: LoadConfig) -> Parsed:
    """The notebook in ``data``; raises `ProblemError`."""
    notebook = read_json(decode_text(data), "the notebook")
    cells = _cells(notebook)
    writer = TextWriter(config)
    cut = False
    for cell in cells:
        source = _joined(cell.get("source", cell.get("input")))
        if cell.get("cell_type") == "markdown":
            _write_markdown(writer, source)
        elif cell.get("cell_type") == "code":
            writer.block("code", source.strip("\n"))
            for output in _outputs(cell):
                cut = cut or len(output) > MAX_OUTPUT
                writer.block("code", output[:MAX_OUTPUT].strip("\n"))
        else:
            writer.block("paragraph", source.strip("\n"))
    metadata = notebook.get("metadata")
    title = metadata.get("title") if isinstance(metadata, dict) else ""
    title = title if isinstance(title, str) else ""
    title = title or (writer.headings[0][2] if writer.headings else "")
    fields: dict[str, Value] = {"cells": len(cells)}
    if cut:
        fields["warnings"] = ("outputs cut",)
    return Parsed(writer.text(), title, writer.sections(), writer.blocks, fields=fields)


def _cells(notebook: Any) -> list[Mapping[str, Any]]:
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if cells is None and isinstance(notebook, dict):
        sheets = notebook.get("worksheets")  # format 3
        first = sheets[0] if isinstance(sheets, list) and sheets else None
        cells = first.get("cells") if isinstance(first, dict) else None
    if not isinstance(cells, list):
        raise ProblemError("format", "is JSON, but no notebook: it has no cells", "export it again")
    if len(cells) > MAX_CELLS:
        raise ProblemError("size", f"has {len(cells):,} cells, more than {MAX_CELLS:,}", "split it")
    return [cell for cell in cells if isinstance(cell, dict)]


def _joined(source: object) -> str:
    """A text that may be given as a list of lines."""
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _write_markdown(writer: TextWriter, source: str) -> None:
    if not source.strip():
        return
    _, sections, blocks = markdown_structure(source)
    if writer.length:
        writer.put("\n\n")
    offset = writer.length
    writer.put(source)
    writer.blocks += [Block(b.kind, offset + b.start, offset + b.end) for b in blocks]
    writer.headings += [(offset + s.start, s.level, s.title) for s in sections if s.level]


def _outputs(cell: Mapping[str, Any]) -> Iterator[str]:
    outputs = cell.get("outputs")
    for output in outputs if isinstance(outputs, list) else ():
        if not isinstance(output, dict):
            continue
        if output.get("output_type") in ("error", "pyerr"):
            yield f"{output.get('ename', '')}: {output.get('evalue', '')}"[: MAX_OUTPUT + 1]
            continue
        data = output.get("data")
        shown = data.get("text/plain") if isinstance(data, dict) else output.get("text")
        yield _joined(shown)


_NAMES = """
    py pyi js mjs cjs jsx ts tsx java kt c h cc cpp hpp cs go rs rb php swift scala sh bash zsh ps1
    sql r jl lua pl toml yaml yml json ini cfg css scss tf proto graphql
"""
ENDINGS = tuple(f".{name}" for name in _NAMES.split())
# Lines this long on average, over so many characters, are nobody's work.
MINIFIED_LINE, MINIFIED_CHARS = 300, 10_000
_PYTHON = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"""|\Z)'
    r"|'''(?:[^'\\]|\\.|'(?!''))*(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'(?:[^'\\\n]|\\.)*'?"
    r"|#[^\n]*"
    r"|^(?P<indent>[ \t]*)(?:async[ \t]+)?(?:def|class)[ \t]+(?P<name>\w+)",
    re.M | re.S,
)


def parse_source(data: bytes, path: str, _config: LoadConfig) -> Parsed:
    """The code in ``data``, titled with its file's name."""
    text = decode_text(data)
    lines = text.count("\n") + 1
    if len(text) > MINIFIED_CHARS and len(text) > MINIFIED_LINE * lines:
        raise ProblemError(
            "format",
            f"is minified or generated: {len(text) // lines:,} characters a line",
            "leave it out, or index what it was made from",
        )
    _, sections, paragraphs = text_structure(text)
    blocks = [Block("code", block.start, block.end) for block in paragraphs]
    if os.path.splitext(path)[1].lower() in (".py", ".pyi"):
        sections = python_sections(text)
    return Parsed(text, os.path.basename(path), sections, blocks)


def python_sections(text: str) -> list[Section]:
    """A section for each class and function, decorators and comments above it included."""
    headings: list[tuple[int, int, str]] = []
    indents: list[int] = []
    for match in _PYTHON.finditer(text):
        if match["name"] is None:
            continue
        indent = len(match["indent"].expandtabs(8))
        while indents and indents[-1] >= indent:
            indents.pop()
        indents.append(indent)
        start = _with_lines_above(text, match.start(), headings[-1][0] + 1 if headings else 0)
        headings.append((start, len(indents), match["name"]))
    return sections_from_headings(headings, len(text))


def _with_lines_above(text: str, start: int, lowest: int) -> int:
    """Go up over decorators and comments that stand directly above ``start``."""
    while True:
        above = text.rfind("\n", lowest, max(start - 1, lowest))
        line_start = above + 1 if above >= 0 else 0
        if line_start < lowest or line_start >= start:
            return start
        if not text[line_start:start].lstrip().startswith(("@", "#")):
            return start
        start = line_start
