"""One HTML page that shows how tokenizers cut a text: self-contained, no script, no request.

Covers the table of counts and the coloured pieces, in light and dark. Does not cover counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstack.app.inspect.token_view import TONES, legible
from lmstack.app.report.pages import self_contained

if TYPE_CHECKING:
    from lmstack.text import TokenPiece

__all__ = ["token_page"]


def token_page(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    views: Sequence[tuple[str, Sequence[TokenPiece], bool]],
) -> str:
    """The page. ``views``: name of a tokenizer, its pieces, and whether the text goes on."""
    return self_contained(
        "inspect/templates/tokens.html",
        styles=("report/page.css", "inspect/tokens.css"),
        title=title,
        header=header,
        rows=rows,
        views=[
            (name, [_span(index, piece) for index, piece in enumerate(pieces)], goes_on)
            for name, pieces, goes_on in views
        ],
    )


def _span(index: int, piece: TokenPiece) -> tuple[str, str, str]:
    """Its class, by which neighbours differ in colour; its numbers; and what is seen of it."""
    kind = "unknown" if piece.unknown else f"t{index % len(TONES)}" if piece.ids else "soft"
    lines = piece.text.splitlines(keepends=True)
    shown = "".join(legible(line) + "\n" * line.endswith("\n") for line in lines)
    return kind, " ".join(map(str, piece.ids)) or "no token", shown
