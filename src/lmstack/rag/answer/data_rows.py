"""Rows of CSV files and records of JSON lines as units, shown with the names of their cells.

The names may stand far above a passage, so they come from the document. A unit is still a span of
the file. Rows that cannot be told apart stay as they are.
"""

from __future__ import annotations

import csv
import json
from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice
from typing import Any

from lmstack.rag.answer.units import Unit, UnitKind
from lmstack.rag.documents import Block, Document

__all__ = ["read_rows"]

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
    names = _cells(document.text[slice(*block.header)])
    cells = _cells(text, _delimiter(document.text[slice(*block.header)]))
    if len(names) != len(cells):
        return ""
    return "; ".join(f"{name}: {cell}" for name, cell in zip(names, cells, strict=True) if cell)


def _delimiter(header: str) -> str:
    return max(DELIMITERS, key=header.count)


def _cells(row: str, delimiter: str | None = None) -> list[str]:
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
        text = ", ".join(" ".join(_plain(each).split()) for each in values)
        if text:
            yield f"{name}: {text}" if name else text


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)
