"""Sentences as spans, for quoting and for cutting long paragraphs.

Lines are read first (headings, list items, table rows, the lines of a fence and paragraphs do
not run into one another), then each paragraph goes through nupunkt's Punkt model. Spans never
include the markers of lists, quotes and headings, nor white space at their ends; together they
hold every other character that is not white space, a fence line or a ruling line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

import nupunkt

__all__ = ["Run", "line_runs", "sentence_spans", "split_prose"]

Span = tuple[int, int]
Run = tuple[int, int, Literal["prose", "item", "heading", "row", "code"]]
_LINE = re.compile(r"[^\n]*(?:\n|$)")
_MARKER = re.compile(
    r"[ \t]*(?:>[ \t]*)*(?:(?:[-*+•]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?|#{1,6}[ \t]+)?"
)
_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(```+|~~~+)")
_RULE = frozenset("-*_=|:+ \t\r\n")
# What Punkt looks at to see whether a sentence ends there; most lines of a manual have none.
_END = re.compile("[.?!\u2026](?=[\\s!?)\"';}\\]*:@({\\[\u201d\u00bb\u2019])")
# Punkt is linear in theory; in practice long texts without a blank line cost it dearly.
_MAX_PROSE = 20_000


def sentence_spans(text: str) -> list[Span]:
    """Sentences of a chunk of Markdown, plain or extracted text, in order."""
    spans: list[Span] = []
    for start, end, kind in line_runs(text):
        prose = kind in ("prose", "item")
        spans.extend(split_prose(text, start, end) if prose else _stripped(text, start, end))
    return spans


def line_runs(text: str) -> Iterator[Run]:
    """Lines that belong together, without the markers before them: a paragraph, an item of a
    list, or a single line of another kind."""
    open_start: int | None = None
    kind: Literal["prose", "item"] = "prose"
    fence: str | None = None
    end = 0
    for match in _LINE.finditer(text):
        start, end = match.span()
        if start == end:
            break
        line = match.group()
        words = line.strip()
        if fence is None and words[:1].isalpha() and not words.endswith(" |"):
            # Most lines: no marker and no sign that could be one.
            if open_start is None:
                open_start = start + len(line) - len(line.lstrip(" \t"))
                kind = "prose"
            continue
        fenced = _FENCE.match(line)
        if fenced and (fence is None or fenced.group(1).startswith(fence)):
            if open_start is not None:
                yield open_start, start, kind
            fence = fenced.group(1)[:3] if fence is None else None
            open_start = None
        elif fence is not None:
            yield start, end, "code"
        else:
            marker = _MARKER.match(line)
            begin = start + (marker.end() if marker else 0)
            content = line[begin - start :].strip()
            row = line.lstrip().startswith("|") or line.rstrip().endswith(" |")
            alone = row or line.lstrip().startswith("#")
            if open_start is not None and (not content or alone or _starts_item(line)):
                yield open_start, start, kind
                open_start = None
            if not content or _RULE.issuperset(content):
                continue
            if alone:
                yield begin, end, "row" if row else "heading"
            elif open_start is None:
                open_start = begin
                kind = "item" if _starts_item(line) else "prose"
    if open_start is not None:
        yield open_start, len(text), kind


def _starts_item(line: str) -> bool:
    marker = _MARKER.match(line)
    return bool(marker and marker.group().strip(" \t>"))


def split_prose(text: str, start: int, end: int) -> list[Span]:
    """Sentences of ``text[start:end]`` by Punkt alone, stripped."""
    spans: list[Span] = []
    while end - start > _MAX_PROSE:
        cut = text.rfind(" ", start + 1, start + _MAX_PROSE)
        cut = cut if cut > start else start + _MAX_PROSE
        spans.extend(_punkt(text, start, cut))
        start = cut
    spans.extend(_punkt(text, start, end))
    return spans


def _punkt(text: str, start: int, end: int) -> list[Span]:
    if not _END.search(text, start, end):
        return _stripped(text, start, end)
    spans: list[Span] = []
    for left, right in nupunkt.sent_spans(text[start:end]):
        spans.extend(_stripped(text, start + left, start + right))
    return spans


def _stripped(text: str, start: int, end: int) -> list[Span]:
    """The span without white space at its ends, or nothing if it holds nothing else."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return [(start + left, start + right)] if left < right else []
