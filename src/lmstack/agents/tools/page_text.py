"""The readable text of a web page.

Covers dropping what no reader sees (scripts, styles, forms), and one line for each block. Does not
cover boilerplate, tables as tables, links, or what a style sheet hides; documents are read by
lmstack.rag. A page may be hostile, and parsers that build a tree need time quadratic in its depth:
this goes through the tags once, whatever they are.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

__all__ = ["page_text"]

# Stops at the next "<" whatever comes, so that it stays linear on hostile input.
_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9-]*)[^<>]*>")
_DROPPED = {
    name: re.compile(rf"</{name}\b[^<>]*>?", re.IGNORECASE)
    for name in (
        *("script", "style", "noscript", "template", "svg", "math", "iframe", "object", "canvas"),
        *("audio", "video", "select", "button", "textarea", "dialog", "title"),
    )
}
# Text up to the end of the page, where they are not closed.
_RAW = ("script", "style", "textarea", "title")
_BREAKING = frozenset(
    (
        *("address", "article", "aside", "blockquote", "body", "br", "dd", "div", "dl", "dt"),
        *("figcaption", "figure", "footer", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr"),
        *("li", "main", "nav", "ol", "option", "p", "pre", "section", "table", "tr", "ul"),
    )
)
_CELLS = ("td", "th")
_SPACE = re.compile(r"[^\S\n]+")


def page_text(source: str) -> str:
    """The title and the text of the page ``source``, one line a block."""
    title, parts = "", []
    for name, text in _parts(source):
        if name == "title":
            title = title or " ".join(html.unescape(text).split())
        elif name in _BREAKING:
            parts.append("\n")
        elif name in _CELLS:
            parts.append(" ")
        elif not name:
            # Line breaks of the source are spaces to a reader.
            parts.append(" ".join(html.unescape(f"|{text}|").split())[1:-1])
    lines = (_SPACE.sub(" ", line).strip() for line in "".join(parts).split("\n"))
    text = "\n".join(line for line in lines if line)
    return f"{title}\n\n{text}" if title and not text.startswith(title) else text


def _parts(source: str) -> Iterator[tuple[str, str]]:
    """Each tag by its name, and each text between tags under no name; a title with its text."""
    place = 0
    unclosed: set[str] = set()
    while (start := source.find("<", place)) >= 0:
        yield "", source[place:start]
        tag = _TAG.match(source, start)
        if tag is None:
            place = _after_markup(source, start)
            if place == start + 1:
                yield "", "<"
            continue
        name, place = tag[2].lower(), tag.end()
        if name not in _DROPPED or tag[1] or name in unclosed:
            yield name if name != "title" else "", ""
            continue
        end = _DROPPED[name].search(source, place)
        if end is None:
            unclosed.add(name)  # not to look for its end again at each
        inside = place
        place = end.end() if end else len(source) if name in _RAW else place
        if name == "title":
            yield name, source[inside : end.start() if end else place]
    yield "", source[place:]


def _after_markup(source: str, start: int) -> int:
    """Where text goes on after a comment, a declaration or a lonely ``<``."""
    if source.startswith("<!--", start):
        end = source.find("-->", start + 4)
        return end + 3 if end >= 0 else len(source)
    if source.startswith(("<!", "<?", "</"), start):
        end = source.find(">", start)
        return end + 1 if end >= 0 else len(source)
    return start + 1
