"""Tables that ruling lines draw: which characters stand in which cell.

A table is a connected set of horizontal and vertical rules with at least two rows and two
columns that hold text. Cells that no rule parts are one cell. Does not guess tables from white
space: what is not ruled stays text.

Headers, footers and page numbers are left out. A line is one only if the same text stands at the
same height on a neighbouring page, or the same text with a number that grows as the pages do. The
first appearance of a text is kept, so that nothing is lost; bare page numbers are not.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from lmstack.rag.disjoint_sets import DisjointSets
from lmstack.rag.documents import Box
from lmstack.rag.formats.lines import Line, gather_lines
from lmstack.rag.formats.pdfium import PdfPage

__all__ = ["find_furniture", "lines_and_tables"]

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


NEAR = 2.0
MAX_CELLS = 20_000
# A cell of more characters, alone in its row, is no cell.
FRAMED = 300


@dataclass(slots=True)
class _Grid:
    """``xs`` and ``ys``: where the rules stand, ascending. ``cell_of[r][c]``: the number of the
    cell that the field (r, c) belongs to."""

    xs: list[float]
    ys: list[float]
    cell_of: list[list[int]]

    def field(self, x: float, y: float) -> tuple[int, int] | None:
        column = bisect_right(self.xs, x) - 1
        row = bisect_right(self.ys, y) - 1
        if 0 <= column < len(self.xs) - 1 and 0 <= row < len(self.ys) - 1:
            return row, column
        return None


def lines_and_tables(page: PdfPage) -> list[Line]:
    """All lines of ``page`` in the order of the file; each table as one `Line` with cells."""
    grids = _grids(page.rules) if len(page.rules) >= 6 else []
    if not grids:
        return gather_lines(page, range(len(page.codes)))
    inside: list[dict[int, list[int]]] = [{} for _ in grids]
    homes = _homes(page, grids)
    for index, home in enumerate(homes):
        if home is not None:
            inside[home[0]].setdefault(home[1], []).append(index)
    tables = [_table(page, grid, cells) for grid, cells in zip(grids, inside, strict=True)]
    kept = [n for n, table in enumerate(tables) if table is not None]
    outside = [i for i, home in enumerate(homes) if home is None or home[0] not in kept]
    lines = gather_lines(page, outside)
    first = {number: min(map(min, inside[number].values())) for number in kept}
    # The last one first, so that all lines that are looked at are the page's own.
    for number in sorted(kept, key=first.__getitem__, reverse=True):
        table = tables[number]
        after = (
            n for n, line in enumerate(lines) if line.origin and line.origin[-1] > first[number]
        )
        if table is not None:
            lines.insert(next(after, len(lines)), table)
    return lines


def _homes(page: PdfPage, grids: Sequence[_Grid]) -> list[tuple[int, int] | None]:
    """For each character (table, cell). A space or line end belongs where the one before does."""
    homes: list[tuple[int, int] | None] = []
    last: tuple[int, int] | None = None
    for code, (x0, y0, x1, y1) in zip(page.codes, page.boxes, strict=True):
        if code > 32 or code == 2:
            last = None
            for number, grid in enumerate(grids):
                spot = grid.field((x0 + x1) / 2, (y0 + y1) / 2)
                if spot is not None and (cell := grid.cell_of[spot[0]][spot[1]]) >= 0:
                    last = number, cell
                    break
        homes.append(last)
    return homes


def _table(page: PdfPage, grid: _Grid, cells: dict[int, list[int]]) -> Line | None:
    """Rows of cells that hold text, or nothing if this is a frame and no table."""
    rows: list[list[list[Line]]] = []
    done: set[int] = set()
    used: set[int] = set()
    for fields in grid.cell_of:
        row: list[list[Line]] = []
        for column, cell in enumerate(fields):
            lines = [] if cell in done else gather_lines(page, cells.get(cell, ()))
            done.add(cell)
            if lines:
                used.add(column)
            row.append(sorted(lines, key=lambda line: line.box[1]))
        if any(row):
            rows.append(row)
    if len(rows) < 2 or len(used) < 2 or _holds_prose(rows):
        return None
    columns = sorted(used)
    rows = [[row[c] for c in columns] for row in rows]
    box = grid.xs[0], grid.ys[0], grid.xs[-1], grid.ys[-1]
    sizes = sorted(line.size for row in rows for cell in row for line in cell)
    return Line("", [], box, sizes[len(sizes) // 2], cells=rows)


def _holds_prose(rows: Sequence[Sequence[Sequence[Line]]]) -> bool:
    """Whether most of the text stands in long cells that have their rows for themselves: then
    these are frames around parts of the page."""
    alone = whole = 0
    for row in rows:
        filled = [sum(len(line.text) for line in cell) for cell in row if cell]
        whole += sum(filled)
        alone += filled[0] if len(filled) == 1 and filled[0] > FRAMED else 0
    return alone > 0.5 * whole


def _grids(rules: Sequence[Box]) -> list[_Grid]:
    across = _joined([r for r in rules if r[2] - r[0] >= r[3] - r[1]], 1, 0)
    down = _joined([r for r in rules if r[2] - r[0] < r[3] - r[1]], 0, 1)
    grids = []
    for h, v in _components(across, down):
        ys = _distinct([r[1] for r in h])
        xs = _distinct([r[0] for r in v])
        if len(ys) >= 3 and len(xs) >= 3 and len(ys) * len(xs) <= MAX_CELLS:
            grids.append(_Grid(xs, ys, _cells(xs, ys, h, v)))
    return grids


def _joined(rules: Sequence[Box], fixed: int, along: int) -> list[Box]:
    """Rules that go on from one another as one: tables are often drawn cell by cell."""
    result: list[Box] = []
    ordered = sorted(rules, key=lambda r: (round(r[fixed] / NEAR), r[along]))
    for rule in ordered:
        last = result[-1] if result else None
        if (
            last is not None
            and abs(last[fixed] - rule[fixed]) <= NEAR
            and rule[along] <= last[along + 2] + NEAR
        ):
            longer = list(last)
            longer[along + 2] = max(last[along + 2], rule[along + 2])
            result[-1] = (longer[0], longer[1], longer[2], longer[3])
        else:
            result.append(rule)
    return result


def _components(across: Sequence[Box], down: Sequence[Box]) -> list[tuple[list[Box], list[Box]]]:
    """Rules that touch, together."""
    sets = DisjointSets(len(across) + len(down))
    if len(across) * len(down) > 1_000_000:
        return []
    for i, h in enumerate(across):
        for j, v in enumerate(down):
            if h[0] - NEAR <= v[0] <= h[2] + NEAR and v[1] - NEAR <= h[1] <= v[3] + NEAR:
                sets.join(i, len(across) + j)
    groups: dict[int, tuple[list[Box], list[Box]]] = {}
    for n in range(len(across) + len(down)):
        h_, v_ = groups.setdefault(sets.root(n), ([], []))
        if n < len(across):
            h_.append(across[n])
        else:
            v_.append(down[n - len(across)])
    return list(groups.values())


def _distinct(values: Sequence[float]) -> list[float]:
    result: list[float] = []
    for value in sorted(values):
        if not result or value - result[-1] > NEAR * 1.5:
            result.append(value)
    return result


def _cells(
    xs: Sequence[float], ys: Sequence[float], across: Sequence[Box], down: Sequence[Box]
) -> list[list[int]]:
    """Number the cells: neighbouring fields with no rule between them share one."""
    rows, columns = len(ys) - 1, len(xs) - 1
    numbers = [[r * columns + c for c in range(columns)] for r in range(rows)]

    def ruled(rules: Sequence[Box], fixed: int, at: float, middle: float) -> bool:
        along = 1 - fixed
        return any(
            abs(rule[fixed] - at) <= NEAR * 1.5 and rule[along] <= middle <= rule[along + 2]
            for rule in rules
        )

    for r in range(rows):
        middle = (ys[r] + ys[r + 1]) / 2
        for c in range(1, columns):
            if not ruled(down, 0, xs[c], middle):
                numbers[r][c] = numbers[r][c - 1]
    for c in range(columns):
        middle = (xs[c] + xs[c + 1]) / 2
        for r in range(1, rows):
            if numbers[r][c] == r * columns + c and not ruled(across, 1, ys[r], middle):
                numbers[r][c] = numbers[r - 1][c]
    return numbers
