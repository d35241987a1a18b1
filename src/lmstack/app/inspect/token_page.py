"""One HTML page that shows how tokenizers cut a text: self-contained, no script, no request.

Covers the table of counts and the coloured pieces, in light and dark. Text is escaped, so a
document cannot write into the page, and the page's own policy forbids scripts besides. Does not
cover counting.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from lmstack.app.inspect.token_view import TONES, legible

if TYPE_CHECKING:
    from lmstack.text import TokenPiece

__all__ = ["token_page"]

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --quiet: #5c5c5c;
  --t1: #cfe6f7; --t2: #fbe0b0; --t3: #cdeccf; --t4: #f3d3e4; --bad: #b3261e; --bad-ink: #fff; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #ececec; --quiet: #a5a5a5;
  --t1: #1f4a66; --t2: #5f4708; --t3: #22512a; --t4: #5b2b46;
  --bad: #f2b8b5; --bad-ink: #3a0b08; } }
body { background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
p { color: var(--quiet) }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; white-space: nowrap }
.wide { overflow-x: auto }
.text { font: 15px/1.9 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere; }
.text span { border-radius: 3px; padding: 2px 0 }
.a { background: var(--t1) } .b { background: var(--t2) } .c { background: var(--t3) }
.d { background: var(--t4) }
.u { background: var(--bad); color: var(--bad-ink); text-decoration: underline }
.n { color: var(--quiet) }
"""


def token_page(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    views: Sequence[tuple[str, Sequence[TokenPiece], bool]],
) -> str:
    """The page. ``views``: name of a tokenizer, its pieces, and whether the text goes on."""
    heads = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    sections = "".join(_section(*view) for view in views)
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>'
        "</div>\n<p>Each piece is one token; point at it for its number. Several numbers: the"
        " tokens share a character. Underlined: the vocabulary does not know it.</p>\n"
        f"{sections}</html>\n"
    )


def _section(name: str, pieces: Sequence[TokenPiece], goes_on: bool) -> str:
    spans = "".join(_span(index, piece) for index, piece in enumerate(pieces))
    more = '<span class="n"> …</span>' if goes_on else ""
    return f'<h2>{escape(name)}</h2>\n<div class="text" dir="auto">{spans}{more}</div>\n'


def _span(index: int, piece: TokenPiece) -> str:
    kind = "u" if piece.unknown else "abcd"[index % len(TONES)] if piece.ids else "n"
    shown = "".join(
        escape(legible(line)) + ("\n" if line.endswith("\n") else "")
        for line in piece.text.splitlines(keepends=True)
    )
    tip = " ".join(map(str, piece.ids)) or "no token"
    return f'<span class="{kind}" title="{tip}">{shown}</span>'
