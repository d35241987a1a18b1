"""Lines with Hebrew or Arabic in them, from the order they are drawn in to the order of reading.

The direction of a line is that of most of its letters. Runs against it are turned within it, and
digits always run to the right. This is the inverse of what a typesetter does as far as a line
tells; embeddings deeper than one level are not undone. Covers one line at a time.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import groupby

__all__ = ["has_right_to_left", "reading_order"]

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
