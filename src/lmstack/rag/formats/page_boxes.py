"""Places on the pages of a document: data only, so that who shows them loads no parser."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Box", "PageBoxes"]

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class PageBoxes:
    """``boxes`` are (left, top, right, bottom) in points from the top left of page ``number``,
    which is ``width`` x ``height`` points as it is shown; in reading order, one for each stretch
    of a line."""

    number: int
    width: float
    height: float
    boxes: tuple[Box, ...]
