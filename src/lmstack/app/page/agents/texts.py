"""What models, tools and people wrote, as parts of a page: bounded, opened at will, never hidden
inside other text.

Arguments are what a person approves, so a character of them that cannot be seen is shown by its
number, and they are never cut. Pictures are PNG or JPEG by their first bytes, or not shown.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from lmstack.agents.tools.texts import exact
from lmstack.agents.tools.tool import Picture
from lmstack.app.formats import size
from lmstack.app.page.agents.markup import MarkupElement, node
from lmstack.core.json_text import parse_json

__all__ = ["arguments_block", "data_block", "exact", "line", "picture", "text_block"]

LINE = 160
FIRST, MOST = 2_000, 200_000
_KINDS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


def line(text: str, most: int = LINE) -> str:
    """The beginning of ``text`` on one line."""
    start = " ".join(text[: 4 * most].split())
    return start if len(start) <= most else start[: most - 1] + "…"


def text_block(text: str, **attributes: str) -> Iterator[MarkupElement]:
    """``text`` as it was written; the rest of a long one opens."""
    start, rest = text[:FIRST], text[FIRST:MOST]
    yield node("pre", start, class_="text", dir="auto", tabindex="0", **attributes)
    if rest:
        more = f"Show {len(rest):,} more characters"
        pre = node("pre", rest, class_="text", dir="auto", tabindex="0")
        yield node("details", node("summary", more), pre, class_="rest")
    if len(text) > MOST:
        yield node(
            "p", f"{len(text) - MOST:,} more characters are in the run's JSON", class_="note"
        )


def arguments_block(text: str) -> Iterator[MarkupElement]:
    """Arguments of a call, laid out if they are JSON, and as they are if not."""
    try:
        shown = exact(_laid_out(parse_json(text or "{}")))
    except ValueError as error:
        shown = exact(text)
        yield node("p", f"not JSON: {error}", class_="wrong")
    yield node("pre", shown, class_="text code", tabindex="0", aria_label="Arguments")


def data_block(data: Any) -> Iterator[MarkupElement]:
    """The result of a tool as JSON, where it gave more than text."""
    if data is not None:
        yield node(
            "details", node("summary", "As JSON"), *text_block(_laid_out(data)), class_="rest"
        )


def picture(each: Picture, name: str) -> MarkupElement:
    start = _KINDS.get(each.media_type)
    if start is None or not each.data.startswith(start):
        told = f"{name} is not shown: {line(each.media_type, 40)}, {size(len(each.data))}"
        return node("p", told, class_="note")
    data = base64.b64encode(each.data).decode("ascii")
    return node("img", src=f"data:{each.media_type};base64,{data}", alt=name)


def _laid_out(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
