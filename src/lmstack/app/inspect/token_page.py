"""One HTML page that shows how tokenizers cut a text: self-contained, no script, no request.

Covers the table of counts and the coloured pieces, in light and dark. Does not cover counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lmstack.app.inspect.token_view import legible
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
        views=views,
        legible=legible,
    )
