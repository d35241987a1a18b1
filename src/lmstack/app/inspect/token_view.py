"""A text with its tokens made visible: coloured pieces for a terminal, bars between them in a pipe.

Covers one line of text or many; white space and control characters are shown as what they are.
Does not cover which pieces there are (`lmstack.text.pieces`) or the page (`token_page`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstack.app.cli.output import Output, Style
from lmstack.app.formats import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lmstack.text import Piece

__all__ = ["TONES", "first_tokens", "legible", "terminal_view"]

TONES: tuple[Style, ...] = ("tone 1", "tone 2", "tone 3", "tone 4")
_SIGNS = str.maketrans({"\n": "↵", "\t": "⇥", "\r": "␍", "\0": "␀", "\xa0": "⍽"})


def legible(text: str) -> str:
    """``text`` on one line, with a sign for each character that would not show."""
    return printable(text.translate(_SIGNS), one_line=True)


def first_tokens(pieces: Iterable[Piece], count: int) -> tuple[list[Piece], bool]:
    """The pieces of the first ``count`` that are tokens, and whether the text goes on."""
    found: list[Piece] = []
    left = count
    for piece in pieces:
        if not left:
            return found, True
        found.append(piece)
        left -= bool(piece.ids)
    return found, False


def terminal_view(out: Output, pieces: Sequence[Piece], *, colour: bool) -> str:
    """The pieces side by side, each in another colour than its neighbours; a line of the text
    ends where it did. Without ``colour`` a bar stands before each token, and ``?`` after what
    the vocabulary does not know."""
    return "".join(_coloured(out, pieces) if colour else _barred(pieces))


def _coloured(out: Output, pieces: Sequence[Piece]) -> Iterator[str]:
    for index, piece in enumerate(pieces):
        style: Style = "unknown" if piece.unknown else TONES[index % len(TONES)]
        for line, is_last in _lines(piece.text):
            yield out.style(line, style if piece.ids else "dim") if line else ""
            yield "" if is_last else "\n"


def _barred(pieces: Sequence[Piece]) -> Iterator[str]:
    at_start = True
    for piece in pieces:
        yield "" if at_start or not piece.ids else "│"
        for line, is_last in _lines(piece.text):
            yield line if is_last else f"{line}\n"
            at_start = not is_last
        yield "?" if piece.unknown else ""
        at_start = piece.text.endswith("\n")


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Lines with their signs, and whether each is the last."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        is_last = index == len(lines) - 1
        yield legible(line if is_last else f"{line}\n"), is_last
