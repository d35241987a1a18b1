"""Elements of a page as values, written as HTML or as JSON from which a script builds them.

Tags and names of attributes come from code alone; everything else is text, and stays text in both
forms. Control characters and those that reorder the text around them are shown as escapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Any

from lmstack.app.formats import printable

__all__ = ["Content", "MarkupElement", "node", "to_html", "to_json"]

# Elements without an end tag.
_VOID = frozenset({"img", "input"})


@dataclass(frozen=True, slots=True)
class MarkupElement:
    """An element. ``attributes``: pairs of a name and its value."""

    tag: str
    attributes: tuple[tuple[str, str], ...] = ()
    children: tuple[MarkupElement | str, ...] = ()

    def __html__(self) -> str:
        """A template writes it where it stands."""
        return to_html(self)


Content = MarkupElement | str | None | Iterable["Content"]


def node(tag: str, *children: Content, **attributes: str | bool | None) -> MarkupElement:
    """``node("p", text, class_="soft")``. Of an attribute's name underscores become hyphens, and
    one at its end goes. None and False are left out, of children as well."""
    named = tuple(
        (name.rstrip("_").replace("_", "-"), "" if value is True else value)
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    return MarkupElement(tag, named, tuple(_flat(children)))


def _flat(children: Content) -> Iterator[MarkupElement | str]:
    if isinstance(children, MarkupElement | str):
        yield children
    elif children is not None:
        for child in children:
            yield from _flat(child)


def to_html(content: MarkupElement | str) -> str:
    return "".join(_html(content))


def _html(content: MarkupElement | str) -> Iterator[str]:
    if isinstance(content, str):
        yield escape(printable(content))
        return
    named = "".join(f' {name}="{escape(printable(v))}"' for name, v in content.attributes)
    # A parser drops the first line end in a pre.
    yield f"<{content.tag}{named}>" + ("\n" if content.tag == "pre" else "")
    for child in content.children:
        yield from _html(child)
    if content.tag not in _VOID:
        yield f"</{content.tag}>"


def to_json(content: MarkupElement | str) -> Any:
    """``[tag, {attribute: value}, child, ...]``, and text as text."""
    if isinstance(content, str):
        return printable(content)
    named = {name: printable(value) for name, value in content.attributes}
    return [content.tag, named, *map(to_json, content.children)]
