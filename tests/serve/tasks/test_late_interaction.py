"""Tokens that late interaction adds to a window leave those that are there where they were."""

from __future__ import annotations

from dataclasses import astuple

from lmstack.serve.tasks.reranking import _inserted
from lmstack.text import Window

WINDOW = Window(
    ids=(1, 20, 30, 2),
    types=(0, 1, 1, 0),
    offsets=((0, 0), (0, 3), (4, 9), (0, 0)),
    sequences=(None, 0, 0, None),
    words=(None, 0, 1, None),
)
ADDED = (9, 0, (0, 0), None, None)


def tokens(window: Window) -> list[tuple[object, ...]]:
    return list(zip(*astuple(window), strict=True))


def test_a_marker_stands_after_the_first_token_and_moves_the_others_whole() -> None:
    first, *others = tokens(WINDOW)
    assert tokens(_inserted(WINDOW, 1, 9)) == [first, ADDED, *others]


def test_a_window_is_filled_at_its_end() -> None:
    assert tokens(_inserted(WINDOW, 4, 9, 2)) == [*tokens(WINDOW), ADDED, ADDED]
    assert _inserted(WINDOW, 4, 9, 0) == WINDOW
