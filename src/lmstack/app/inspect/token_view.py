"""A text with its tokens made visible: coloured pieces for a terminal, bars between them in a pipe.

Covers one line of text or many; white space and control characters are shown as what they are.
Does not cover which pieces there are (`lmstack.text.pieces`) or the page (`token_page`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from lmstack.app.formats import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmstack.text import TokenPiece

__all__ = ["TONES", "first_tokens", "legible"]

# A colour for each token: neighbours differ.
TONES: tuple[Literal["tone 1", "tone 2", "tone 3", "tone 4"], ...]
TONES = ("tone 1", "tone 2", "tone 3", "tone 4")
_SIGNS = str.maketrans({"\n": "↵", "\t": "⇥", "\r": "␍", "\0": "␀", "\xa0": "⍽"})


def legible(text: str) -> str:
    """``text`` on one line, with a sign for each character that would not show."""
    return printable(text.translate(_SIGNS), one_line=True)


def first_tokens(pieces: Iterable[TokenPiece], count: int) -> tuple[list[TokenPiece], bool]:
    """The pieces of the first ``count`` that are tokens, and whether the text goes on."""
    found: list[TokenPiece] = []
    left = count
    for piece in pieces:
        if not left:
            return found, True
        found.append(piece)
        left -= bool(piece.ids)
    return found, False
