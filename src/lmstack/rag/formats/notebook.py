"""Jupyter notebooks: Markdown cells with their headings, code cells, and what those printed.

An output longer than `MAX_OUTPUT` is cut; pictures and HTML outputs are left out, since what
they show is there as plain text as well. Nothing is run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmstack.rag.documents import Block, ProblemError
from lmstack.rag.filters import Value
from lmstack.rag.formats.decoding import decode_text, read_json
from lmstack.rag.formats.limits import LoadConfig
from lmstack.rag.formats.markdown import markdown_structure
from lmstack.rag.formats.parsed import Parsed
from lmstack.rag.formats.writing import TextWriter

__all__ = ["parse_notebook"]

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
