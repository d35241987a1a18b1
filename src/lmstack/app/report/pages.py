"""Pages from templates. HTML stands in files of the package and nowhere in Python.

Every value is escaped on its way into a template, control characters are shown as escapes, and a
name that a template misspells is an error. A page that is one file asks nothing of any host, and
nothing else can run in it: its styles and its script are in it, named by hash in its own policy.
Not covered: what a page says, and the server's pages (`app.page.assets`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup, escape

from lmstack.app.formats import p_value, printable

__all__ = ["asset", "environment", "place", "render", "self_contained"]

_STYLES = ("report/tokens.css", "report/base.css")


def render(template: str, **values: Any) -> str:
    """``template``: its path below `lmstack.app`."""
    return environment().get_template(template).render(values)


def self_contained(
    template: str, *, styles: Sequence[str], scripts: Sequence[str] = (), **values: Any
) -> str:
    """One HTML file of a ``template`` that extends ``report/templates/page.html``. ``styles``,
    ``scripts``: paths below `lmstack.app`, beside the styles of every page."""
    style, script = (
        Markup("".join(asset(path).decode() for path in paths))
        for paths in ((*_STYLES, *styles), scripts)
    )
    return render(template, style=style, script=script, **values)


def asset(path: str) -> bytes:
    """A file of the package, by its path below `lmstack.app`."""
    return (resources.files("lmstack.app") / path).read_bytes()


def place(value: float) -> str:
    """A coordinate of a chart, as its SVG has it."""
    return f"{value:.1f}".removesuffix(".0")


@cache
def environment() -> jinja2.Environment:
    """Of every page."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("lmstack.app", ""),
        autoescape=True,
        extensions=["jinja2.ext.do"],
        undefined=jinja2.StrictUndefined,
        finalize=_on_one_line,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "digest": _digest,
        "lines": _lines,
        "p_value": p_value,
        "place": place,
        "thousands": "{:,}".format,
    }
    return made


def _on_one_line(value: Any) -> Any:
    is_text = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value, one_line=True) if is_text else value


def _lines(text: str) -> Markup:
    """``text`` with its line ends, which are shown as escapes elsewhere."""
    return escape(printable(text))


def _digest(text: str) -> str:
    """As a content policy names it."""
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
