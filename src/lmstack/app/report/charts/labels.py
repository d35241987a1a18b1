"""Labels of pictures: about how wide a text is, shortened or wrapped to a room, and placed so that
none lies on another.

A browser draws with a font that is not known here, so widths are those of a wide one (DejaVu Sans):
a label is never wider than was reckoned. Sizes and places are in the units of the picture.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Box", "abridged", "beside", "shortened", "width_of", "wrapped"]

_NARROW, _BROAD = frozenset("ijlIft.,:;'|![]()/ "), frozenset("mwMW@%+=<>—")
_BREAKS = "_-/ .:@"
_GAP = 4.0


def width_of(text: str, size: float) -> float:
    """Of ``text`` at ``size``, rather too much than too little."""
    return size * sum(map(_advance, text))


def _advance(letter: str) -> float:
    if letter in _NARROW:
        return 0.42
    if unicodedata.combining(letter):
        return 0.0
    if unicodedata.east_asian_width(letter) in "WF":
        return 1.05
    if letter in _BROAD:
        return 1.0
    return 0.72 if letter.isupper() else 0.65


def shortened(text: str, room: float, size: float) -> str:
    """``text``, its end taken off for an ellipsis where it is wider than ``room``."""
    if width_of(text, size) <= room:
        return text
    kept = text
    while kept and width_of(kept + "…", size) > room:
        kept = kept[:-1]
    return kept.rstrip() + "…"


def abridged(text: str, room: float, size: float) -> str:
    """As `shortened`, its middle taken out: names of models often differ at their ends."""
    if width_of(text, size) <= room:
        return text
    for kept in range(len(text) - 1, 0, -1):
        end = kept // 2
        found = f"{text[: kept - end]}…{text[len(text) - end :]}"
        if width_of(found, size) <= room:
            return found
    return "…"


def wrapped(text: str, room: float, size: float, lines: int) -> list[str]:
    """``text`` in at most so many lines, broken after a mark or a blank where there is one."""
    found: list[str] = []
    rest = text
    while rest and len(found) < lines - 1 and width_of(rest, size) > room:
        fits = 1
        while fits < len(rest) and width_of(rest[: fits + 1], size) <= room:
            fits += 1
        breaks = [place + 1 for place in range(1, fits) if rest[place] in _BREAKS]
        cut = breaks[-1] if breaks else fits
        found.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return [*found, shortened(rest, room, size)] if rest else found


@dataclass(frozen=True)
class Box:
    """``left`` to ``right`` and ``top`` to ``bottom``; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )


def beside(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    size: float,
    frame: Box,
    taken: Sequence[Box] = (),
) -> list[Box | None]:
    """A place beside its point for each text, within ``frame``, on no other label and on nothing of
    ``taken``; None where there is none. Points themselves count as taken."""
    blocked = [*taken, *(Box(x - 5, y - 5, x + 5, y + 5) for x, y in points)]
    found: list[Box | None] = []
    for (x, y), text in zip(points, texts, strict=True):
        box = next(
            (
                each
                for each in _choices(x, y, width_of(text, size), size * 1.2)
                if frame.holds(each) and not any(each.meets(other) for other in blocked)
            ),
            None,
        )
        found.append(box)
        if box is not None:
            blocked.append(box)
    return found


def _choices(x: float, y: float, wide: float, tall: float) -> list[Box]:
    """Right, left, above, below, and the corners; near the point before further off."""
    found = []
    for away in (5 + _GAP, 14 + _GAP, 26 + _GAP):
        for left, top in (
            (x + away, y - tall / 2),
            (x - away - wide, y - tall / 2),
            (x - wide / 2, y - away - tall),
            (x - wide / 2, y + away),
            (x + away, y - away - tall),
            (x + away, y + away),
            (x - away - wide, y - away - tall),
            (x - away - wide, y + away),
        ):
            found.append(Box(left, top, left + wide, top + tall))
    return found
