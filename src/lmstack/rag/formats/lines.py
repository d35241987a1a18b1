"""The characters of a page as lines in the order in which they are read.

What the file wrote is kept in its order where that descends; columns are told apart where the
file wrote across them, by a gutter with prose on both sides (so that rows of a table, whose
cells are short, stay rows). Covers one page at a time; `pdf` joins lines to paragraphs.

Lines with Hebrew or Arabic go from the order of drawing to the order of reading. The direction of
a line is that of most of its letters; runs against it are turned within it, and digits always run
to the right. Embeddings deeper than one level are not undone.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise

import numpy as np

from lmstack.rag.documents import Box
from lmstack.rag.formats.pdfium import PdfPage

__all__ = [
    "Line",
    "gather_lines",
    "has_right_to_left",
    "in_reading_order",
    "reading_order",
    "same_row",
]

_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")


def has_right_to_left(text: str) -> bool:
    return _RIGHT_TO_LEFT.search(text) is not None


def reading_order(units: Sequence[str], middles: Sequence[float]) -> list[int]:
    """The indexes of ``units`` (what each drawn character stands for) as they are read;
    ``middles`` are their x."""
    drawn = sorted(range(len(units)), key=lambda n: middles[n])
    ways = [_way(units[n]) for n in drawn]
    letters = [way for way, n in zip(ways, drawn, strict=True) if units[n].isalpha()]
    base = "R" if 2 * letters.count("R") > len(letters) else "L"
    runs = [
        (way, [n for n, _ in run])
        for way, run in groupby(
            zip(drawn, _resolved(ways, base), strict=True), key=lambda pair: pair[1]
        )
    ]
    if base == "R":
        runs.reverse()
    return [n for way, run in runs for n in (reversed(run) if way == "R" else run)]


def _way(unit: str) -> str:
    """R, L or N for neither."""
    kind = unicodedata.bidirectional(unit[0])
    if kind in ("R", "AL"):
        return "R"
    return "L" if kind in ("L", "EN", "AN") else "N"


def _resolved(ways: Sequence[str], base: str) -> list[str]:
    """Signs and spaces go with what is on both sides of them, else with the line."""
    result = list(ways)
    start = 0
    while start < len(ways):
        end = start
        while end < len(ways) and ways[end] == "N":
            end += 1
        if end > start:
            before = ways[start - 1] if start else base
            after = ways[end] if end < len(ways) else base
            result[start:end] = [before if before == after else base] * (end - start)
        start = max(end, start + 1)
    return result


HYPHEN = 2  # what PDFium gives for a hyphen at the end of a line
_LIGATURES = {
    0xFB00: "ff",
    0xFB01: "fi",
    0xFB02: "fl",
    0xFB03: "ffi",
    0xFB04: "ffl",
    0xFB05: "st",
    0xFB06: "st",
}
# A gap of so many heights parts what stands on one line into two.
PARTING = 2.0
MAX_LINES = 3_000
# A column has at least so many lines, of at least so many characters (the median).
COLUMN_LINES, COLUMN_CHARS = 4, 18
MAX_CROSSING = 0.4
MAX_COLUMN_DEPTH = 4


@dataclass(slots=True)
class Line:
    """``text[i]`` was drawn as character ``origin[i]`` of the page (-1: drawn by nobody).
    ``cells`` is set for a whole table: rows of cells, each a list of lines."""

    text: str
    origin: list[int]
    box: Box
    size: float
    hyphen: bool = False
    cells: list[list[list[Line]]] | None = field(default=None)


def gather_lines(page: PdfPage, indexes: Iterable[int]) -> list[Line]:
    """Lines of the characters ``indexes`` (ascending), in the order of the file."""
    lines: list[Line] = []
    open_ = _Open(page)
    for index in indexes:
        code = page.codes[index]
        if code in (10, 13):
            open_.close(lines)
        elif code == HYPHEN:
            open_.add(index, "-", lines)
            open_.close(lines, hyphen=True)
        elif code in (32, 9, 0xA0):
            open_.space = index
        elif code in (0xAD, 0xFFFE, 0xFEFF) or code < 32 or code > 0x10FFFF:
            pass
        elif 0xD800 <= code < 0xE000:  # PDFium counts in UTF-16
            pair = _pair(page.codes, index)
            if pair:
                open_.add(index, pair, lines)
        else:
            open_.add(index, _LIGATURES.get(code) or chr(code), lines)
    open_.close(lines)
    return lines


def _pair(codes: Sequence[int], index: int) -> str:
    """The character whose first half is at ``index``; empty for a second half or one alone."""
    high, low = codes[index], codes[index + 1] if index + 1 < len(codes) else 0
    if not (high < 0xDC00 <= low < 0xE000):
        return ""
    return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))


class _Open:
    """The line that is being gathered."""

    def __init__(self, page: PdfPage) -> None:
        self.page = page
        self.space: int | None = None
        self._start()

    def _start(self) -> None:
        self.text: list[str] = []
        self.origin: list[int] = []
        self.sizes: list[float] = []
        self.box: Box = (0.0, 0.0, 0.0, 0.0)
        self.right = 0.0
        self.last: Box = self.box

    def add(self, index: int, text: str, lines: list[Line]) -> None:
        box, last = self.page.boxes[index], self.last
        # The usual case first, the next letter of a word: most of the time goes here.
        beside = self.text and box[1] == last[1] and box[3] == last[3]
        if beside and -1 <= box[0] - last[2] < last[3] - last[1]:
            self.right = box[2] if box[2] > self.right else self.right
        else:
            self._place(box, lines)
        if self.space is not None:
            if self.text:
                self.text.append(" ")
                self.origin.append(self.space)
            self.space = None
        self.last = box
        self.text.append(text)
        if len(text) == 1:
            self.origin.append(index)
        else:
            self.origin.extend([index] * len(text))
        self.sizes.append(self.page.sizes[index])

    def _place(self, box: Box, lines: list[Line]) -> None:
        """Make room for ``box`` in the line, or begin another one."""
        if self.text and self._parted(box):
            self.close(lines)
        x0, y0, _, y1 = self.box if self.text else box
        self.right = max(self.right, box[2]) if self.text else box[2]
        self.box = (min(x0, box[0]), min(y0, box[1]), self.right, max(y1, box[3]))

    def _parted(self, box: Box) -> bool:
        last = self.last
        height = max(last[3] - last[1], box[3] - box[1], 1.0)
        if box[0] - self.right > PARTING * height:
            return True
        return box[1] >= self.box[3] or box[3] <= self.box[1]

    def close(self, lines: list[Line], *, hyphen: bool = False) -> None:
        if self.text:
            size = sorted(self.sizes)[len(self.sizes) // 2]
            x0, y0, _, y1 = self.box
            box = (x0, y0, self.right, y1)
            text, origin = "".join(self.text), self.origin
            if has_right_to_left(text):
                text, origin = self._as_read()
            lines.append(Line(text, origin, box, size, hyphen))
        self.space = None
        self._start()

    def _as_read(self) -> tuple[str, list[int]]:
        """The text from right to left where it is read so. Forms that a letter takes within a
        word become the letter."""
        starts = list(accumulate(map(len, self.text), initial=0))
        indexes = [self.origin[start] for start in starts[:-1]]
        boxes = [self.page.boxes[i] for i in indexes]
        middles = [(box[0] + box[2]) / 2 for box in boxes]
        for n in range(1, len(middles) - 1):
            if boxes[n][2] - boxes[n][0] < 0.1:  # a space without width stands anywhere
                middles[n] = (middles[n - 1] + middles[n + 1]) / 2
        parts: list[str] = []
        origin: list[int] = []
        for n in reading_order(self.text, middles):
            unit = self.text[n]
            if "\ufb1d" <= unit <= "\ufefc":
                unit = unicodedata.normalize("NFKC", unit)
            parts.append(unit)
            origin += [indexes[n]] * len(unit)
        return "".join(parts), origin


def same_row(a: Line, b: Line) -> bool:
    """Whether two lines stand side by side."""
    overlap = min(a.box[3], b.box[3]) - max(a.box[1], b.box[1])
    return overlap > 0.5 * min(a.box[3] - a.box[1], b.box[3] - b.box[1])


def in_reading_order(lines: Sequence[Line]) -> list[Line]:
    """``lines`` of one page, which come in the order of the file, as they are read."""
    if len(lines) > MAX_LINES:
        return list(lines)
    gutter = _gutter(lines)
    if gutter is not None and _written_across(lines, gutter):
        return _by_columns(lines, 0)
    return list(lines) if _descends(lines) else _by_columns(lines, 0)


def _descends(lines: Sequence[Line]) -> bool:
    """Whether no line stands above the one before it and over or under the same words."""
    for a, b in pairwise(lines):
        shared = min(a.box[2], b.box[2]) - max(a.box[0], b.box[0])
        narrow = min(a.box[2] - a.box[0], b.box[2] - b.box[0])
        if b.box[3] <= a.box[1] + 0.2 * (a.box[3] - a.box[1]) and shared > 0.3 * narrow:
            return False
        if same_row(a, b) and b.box[2] <= a.box[0]:
            return False
    return True


def _written_across(lines: Sequence[Line], gutter: float) -> bool:
    across = sum(same_row(a, b) and a.box[2] <= gutter <= b.box[0] for a, b in pairwise(lines))
    return across >= COLUMN_LINES - 1


def _gutter(lines: Sequence[Line]) -> float | None:
    """The x of a white strip between two columns of prose that few lines cross."""
    prose = [line for line in lines if line.cells is None]
    if len(prose) < 2 * COLUMN_LINES:
        return None
    left = np.sort([line.box[0] for line in prose])
    right = np.sort([line.box[2] for line in prose])
    xs = np.unique(right)
    ends = np.searchsorted(right, xs, side="right")
    begins = len(prose) - np.searchsorted(left, xs, side="left")
    crossing = len(prose) - ends - begins
    good = (
        (ends >= COLUMN_LINES) & (begins >= COLUMN_LINES) & (crossing <= MAX_CROSSING * len(prose))
    )
    following = np.append(left, np.inf)[np.searchsorted(left, xs, side="left")]
    candidates = sorted(
        (int(crossing[n]), float(xs[n] - following[n]), float(xs[n])) for n in np.flatnonzero(good)
    )
    for _, strip, x in candidates[:3]:
        if -strip >= 4.0 and _is_gutter(prose, x):
            return x - strip / 2
    return None


def _is_gutter(lines: Sequence[Line], x: float) -> bool:
    """Prose on both sides, side by side."""
    sides = [[n for n in lines if n.box[2] <= x], [n for n in lines if n.box[0] >= x]]
    tops = [min(n.box[1] for n in side) for side in sides]
    bottoms = [max(n.box[3] for n in side) for side in sides]
    shared = min(bottoms) - max(tops)
    for side in sides:
        lengths = sorted(len(n.text) for n in side)
        if lengths[len(lengths) // 2] < COLUMN_CHARS:
            return False
        if shared < COLUMN_LINES * (side[0].box[3] - side[0].box[1]) * 0.75:
            return False
    return True


def _by_columns(lines: Sequence[Line], depth: int) -> list[Line]:
    gutter = _gutter(lines) if depth < MAX_COLUMN_DEPTH else None
    if gutter is None:
        return _by_rows(lines)
    result: list[Line] = []
    left: list[Line] = []
    right: list[Line] = []

    def finish() -> None:
        for side in (left, right):
            result.extend(_by_columns(side, depth + 1))
            side.clear()

    for line in _by_rows(lines):
        if line.box[2] <= gutter:
            left.append(line)
        elif line.box[0] >= gutter:
            right.append(line)
        else:
            finish()
            result.append(line)
    finish()
    return result


def _by_rows(lines: Sequence[Line]) -> list[Line]:
    """From top to bottom; side by side from left to right."""
    rows: list[list[Line]] = []
    for line in sorted(lines, key=lambda n: (n.box[1] + n.box[3], n.box[0])):
        if rows and same_row(rows[-1][-1], line):
            rows[-1].append(line)
        else:
            rows.append([line])
    return [line for row in rows for line in sorted(row, key=lambda n: n.box[0])]
