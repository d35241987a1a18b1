"""What a template wrote as JSON, from which the page's script builds elements and parses nothing.

Templates escape every value, so tags and names of attributes come from them alone.
"""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

__all__ = ["to_json"]

# Elements without an end tag.
_VOID = frozenset({"img", "input"})


def to_json(html: str) -> Any:
    """Of one element: ``[tag, {attribute: value}, child, ...]``, and text as text. Line ends that
    only lay out the template are left out."""
    parser = _Elements()
    parser.feed(html)
    parser.close()
    return parser.open[0][2]


class _Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[list[Any]] = [["", {}]]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        made = [tag, {name: value or "" for name, value in attrs}]
        self.open[-1].append(made)
        if tag not in _VOID:
            self.open.append(made)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].append([tag, {name: value or "" for name, value in attrs}])

    def handle_endtag(self, tag: str) -> None:
        ended = self.open.pop()
        assert ended[0] == tag, f"a template ends {ended[0]} with {tag}"

    def handle_data(self, data: str) -> None:
        parent = self.open[-1]
        if parent[0] == "pre":
            # A browser's parser drops the first line end in it, too.
            data = data if len(parent) > 2 else data.removeprefix("\n")
        elif "\n" in data and not data.strip():
            return
        if data:
            parent.append(data)
