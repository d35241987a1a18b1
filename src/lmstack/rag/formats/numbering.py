"""The labels that Word writes before numbered paragraphs: ``2.1``, ``b)``, ``iv.``, bullets.

Covers the number formats of Western lists; others are counted in digits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["Level", "Numbering"]

_PLACE = re.compile(r"%([1-9])")
_ROMAN = (
    (1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"),
    (50, "l"), (40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i"),
)  # fmt: skip


@dataclass(slots=True)
class Level:
    format: str = "decimal"
    text: str = ""
    start: int = 1


@dataclass(slots=True)
class Numbering:
    """``lists``: number of a list to its levels; ``counters`` stand where the last label was."""

    lists: Mapping[str, Mapping[int, Level]]
    counters: dict[str, dict[int, int]] = field(default_factory=dict)

    def label(self, number: str, depth: int) -> str:
        """The label of the next paragraph of list ``number`` at ``depth``; counts it."""
        levels = self.lists.get(number)
        if levels is None or depth not in levels:
            return "-"
        level = levels[depth]
        if level.format in ("bullet", "none"):
            return "-" if level.format == "bullet" else ""
        counts = self.counters.setdefault(number, {})
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [d for d in counts if d > depth]:
            del counts[deeper]

        def place(match: re.Match[str]) -> str:
            at = int(match.group(1)) - 1
            shown = levels.get(at, Level())
            return _shown(counts.get(at, shown.start), shown.format)

        return _PLACE.sub(place, level.text).strip()


def _shown(value: int, style: str) -> str:
    make: dict[str, Callable[[int], str]] = {
        "lowerLetter": _letters,
        "upperLetter": lambda n: _letters(n).upper(),
        "lowerRoman": _roman,
        "upperRoman": lambda n: _roman(n).upper(),
    }
    return make.get(style, str)(value)


def _letters(value: int) -> str:
    """1 is a, 27 is aa, 28 is bb, as Word counts."""
    turns, letter = divmod(max(value, 1) - 1, 26)
    return chr(ord("a") + letter) * min(turns + 1, 10)


def _roman(value: int) -> str:
    if not 0 < value < 4000:
        return str(value)
    result = ""
    for size, sign in _ROMAN:
        count, value = divmod(value, size)
        result += sign * count
    return result
