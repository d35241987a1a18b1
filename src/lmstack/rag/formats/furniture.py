"""Headers, footers and page numbers: what stands at the edge of page after page.

Careful rather than thorough: a line is furniture only if the same text stands at the same
height on a neighbouring page, or the same text with a number that grows as the pages do. The
first appearance of a text is kept, so that nothing is lost; bare page numbers are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from lmstack.rag.formats.lines import Line

__all__ = ["find_furniture"]

# The outermost lines within this share of the height.
EDGE, EDGE_LINES = 0.12, 3
# Left and right pages differ, and the first page of a chapter often has none.
REACH = 3
SAME_HEIGHT = 3.0
MAX_CHARS = 120
_NUMBER = re.compile(r"\d+|\b[ivxlc]+\b")
_BARE = re.compile(r"\W*(?:page|p\.|seite|página|pagina)?\W*#(?:\W*(?:of|/|von|de)\W*#)?\W*", re.I)
Edge = dict[int, tuple[str, list[int], float]]


def find_furniture(pages: Sequence[tuple[float, Sequence[Line]]]) -> list[set[int]]:
    """For each page, given as (height, lines), the indexes of the lines to leave out."""
    edges = [_edge(height, lines) for height, lines in pages]
    dropped: list[set[int]] = [set() for _ in pages]
    seen: set[str] = set()
    if len(pages) < 3:
        return dropped
    for page, edge in enumerate(edges):
        for index, line in edge.items():
            if not _goes_through(edges, page, line):
                continue
            shape = line[0]
            if _BARE.fullmatch(shape) or shape in seen:
                dropped[page].add(index)
            seen.add(shape)
    return dropped


def _edge(height: float, lines: Sequence[Line]) -> Edge:
    """Lines at the top and bottom, as (text with # for numbers, the numbers, y)."""
    order = sorted(range(len(lines)), key=lambda n: lines[n].box[1])
    outer = {*order[:EDGE_LINES], *order[-EDGE_LINES:]}
    found: Edge = {}
    for index in outer:
        line = lines[index]
        at_edge = line.box[3] < EDGE * height or line.box[1] > (1 - EDGE) * height
        if line.cells is None and at_edge and len(line.text) <= MAX_CHARS:
            numbers = [_value(text) for text in _NUMBER.findall(line.text)]
            found[index] = _NUMBER.sub("#", line.text), numbers, line.box[1]
    return found


def _value(text: str) -> int:
    if text[0].isdigit():
        return int(text[:9])
    values = [{"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}[c] for c in text[:20]]
    pairs = zip(values, [*values[1:], 0], strict=True)
    return sum(-value if value < after else value for value, after in pairs)


def _goes_through(edges: Sequence[Edge], page: int, line: tuple[str, list[int], float]) -> bool:
    shape, numbers, y = line
    for other in range(max(page - REACH, 0), min(page + REACH + 1, len(edges))):
        if other == page:
            continue
        for other_shape, other_numbers, other_y in edges[other].values():
            if other_shape != shape or abs(other_y - y) > SAME_HEIGHT:
                continue
            changed = [b - a for a, b in zip(numbers, other_numbers, strict=True) if a != b]
            if not changed or changed == [other - page]:
                return True
    return False
