"""A run as one HTML file."""

from __future__ import annotations

import base64
import hashlib

from lmstack.agents.runs.run import Run
from lmstack.app.page.agents.body import run_body
from lmstack.app.page.agents.head import run_title
from lmstack.app.page.agents.markup import node, to_html
from lmstack.app.report.pages import asset

__all__ = ["run_page"]


def run_page(run: Run) -> str:
    """The page of ``run`` with those of the agents below it, as far as they go."""
    style = "".join(
        asset(name).decode()
        for name in ("report/tokens.css", "report/base.css", "page/static/agents.css")
    )
    script = asset("page/agents/file.js").decode()
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:;"
        " base-uri 'none'; form-action 'none'; require-trusted-types-for 'script';"
        " trusted-types 'none'"
    )
    theme = node(
        "button", "Dark theme", id="theme", class_="quiet small", type="button", hidden=True
    )
    bar = node(
        "header",
        node("span", "lmstack", class_="brand"),
        node("span", "Agents", class_="place"),
        theme,
        class_="bar",
    )
    skip = node("a", "Skip to the timeline", class_="skip", href="#timeline")
    body = "".join(map(to_html, (skip, bar, node("main", run_body(run)))))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"{to_html(node('title', run_title(run)))}\n<style>{style}</style>\n</head>\n"
        f'<body class="agents">\n{body}\n<script>{script}</script>\n</body>\n</html>\n'
    )


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"
