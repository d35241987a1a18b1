"""Where a stretch of text can be cut: between lines, sentences, at separators.

A cutter returns ascending offsets strictly inside of the stretch, so that the pieces between them
leave nothing out. Does not measure or choose (`packing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from lmstack.rag.chunking.measure import Ints
from lmstack.rag.sentences import sentence_spans

__all__ = ["Cutter", "Span", "line_bounds", "sentence_bounds", "separator_cutter", "strip"]

Span = tuple[int, int]
Cutter = Callable[[str, int, int], Ints]
_LINE_END = re.compile(r"\n(?=.)", re.S)
# Punkt needs time quadratic in the length of a run such as "!?!?!?".
_RUN = re.compile(r"\S{400,}")
# Ends of sentences in scripts that put no space after them.
_WIDE_END = re.compile(r"[。！？｡][”’」』）]*(?=.)", re.S)


def line_bounds(text: str, start: int, end: int) -> Ints:
    return _ints([m.end() for m in _LINE_END.finditer(text, start, end)])


def sentence_bounds(text: str, start: int, end: int) -> Ints:
    """Each sentence takes the markers before it along. Long runs without white space stay as
    they are, but for the full stops of Chinese and Japanese."""
    found: list[int] = []
    position = start
    for run in _RUN.finditer(text, start, end):
        found += _prose(text, position, run.start())
        found += [run.start(), *_wide(text, *run.span()), run.end()]
        position = run.end()
    found += _prose(text, position, end)
    return _ints(sorted({offset for offset in found if start < offset < end}))


def _prose(text: str, start: int, end: int) -> list[int]:
    if start >= end:
        return []
    piece = text[start:end]
    return [*(start + b for _, b in sentence_spans(piece)), *_wide(text, start, end)]


def _wide(text: str, start: int, end: int) -> list[int]:
    return [m.end() for m in _WIDE_END.finditer(text, start, end)]


def separator_cutter(separator: str) -> Cutter:
    """Cuts after each ``separator``."""
    width = len(separator)

    def cut(text: str, start: int, end: int) -> Ints:
        found: list[int] = []
        position = text.find(separator, start, end)
        while position >= 0:
            position += width
            if position < end:
                found.append(position)
            position = text.find(separator, position, end)
        return _ints(found)

    return cut


def strip(text: str, start: int, end: int) -> Span | None:
    """The span without white space at its ends, nor the byte-order mark that begins a file; None
    if nothing is left."""
    piece = text[start:end]
    if start == 0 and piece.startswith("\ufeff"):
        start, piece = 1, piece[1:]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return (start + left, start + right) if left < right else None


def _ints(values: list[int]) -> Ints:
    return np.array(values, np.int64)
