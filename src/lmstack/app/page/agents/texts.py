"""What models, tools and people wrote, as parts of a page: bounded, opened at will, never hidden
inside other text.

Arguments are what a person approves, so a character of them that cannot be seen is shown by its
number, and they are never cut. Pictures are PNG or JPEG by their first bytes, or not shown.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from lmstack.agents.tools.results import exact
from lmstack.agents.tools.tool import Picture
from lmstack.core.json_text import parse_json

__all__ = ["arguments_of", "exact", "laid_out", "line", "picture_data"]

LINE = 160
FIRST, MOST = 2_000, 200_000
_KINDS = {"image/png": b"\x89PNG\r\n\x1a\n", "image/jpeg": b"\xff\xd8\xff"}


def line(text: str, most: int = LINE) -> str:
    """The beginning of ``text`` on one line."""
    start = " ".join(text[: 4 * most].split())
    return start if len(start) <= most else start[: most - 1] + "…"


def arguments_of(text: str) -> tuple[str, str]:
    """Arguments of a call, laid out if they are JSON and as they are if not, and what is wrong."""
    try:
        return exact(laid_out(parse_json(text or "{}"))), ""
    except ValueError as error:
        return exact(text), f"not JSON: {error}"


def picture_data(each: Picture) -> str:
    """As a page has it in itself; "" for what is no picture."""
    start = _KINDS.get(each.media_type)
    if start is None or not each.data.startswith(start):
        return ""
    return f"data:{each.media_type};base64,{base64.b64encode(each.data).decode('ascii')}"


def laid_out(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
