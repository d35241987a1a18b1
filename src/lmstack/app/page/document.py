"""A page that is one HTML file: nothing is asked of any host, and nothing else can run in it.

Its styles and its script are in the file and named by hash in the file's own policy. Text of models
and data is escaped before it comes here (`text_of`) and never parsed by a script. Not covered: what
a page says, and the server's pages (`assets`).
"""

from __future__ import annotations

import base64
import hashlib
from html import escape

from lmstack.app.formats import printable
from lmstack.app.report.pages import asset

__all__ = ["self_contained", "text_of"]


def text_of(text: str, *, one_line: bool = True) -> str:
    """``text`` as it may stand in HTML, in an attribute too: no markup, no control characters."""
    return escape(printable(text, one_line=one_line))


def self_contained(title: str, name: str, main: str, *, folder: str, skip: tuple[str, str]) -> str:
    """The file. ``title``, ``name``: plain text, of the window and of the bar. ``main``: HTML.
    ``folder``: of ``page.css`` and ``page.js``. ``skip``: the id and the name of the part that a
    reader without a mouse may jump to."""
    styles = ("report/tokens.css", "report/base.css", "report/page.css", f"page/{folder}/page.css")
    style = "".join(map(_file, styles))
    script = _file("report/page.js") + _file(f"page/{folder}/page.js")
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text_of(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f'<a class="skip" href="#{skip[0]}">Skip to {text_of(skip[1])}</a>\n'
        f'<header class="bar"><span class="brand">lmstack</span><span class="run">{text_of(name)}'
        '</span><button id="theme" class="quiet small" type="button" aria-pressed="false" hidden>'
        "Dark theme</button></header>\n"
        f"<main>\n{main}</main>\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _file(name: str) -> str:
    return asset(name).decode()


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
