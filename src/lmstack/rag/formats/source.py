"""Source code and configuration: the text is the file, cut at blank lines.

Python has a section for each class and function, found by its words outside strings and
comments, so that a syntax error costs nothing. Other languages have one section. Code that no
person wrote (minified, generated into endless lines) is refused.
"""

from __future__ import annotations

import os
import re

from lmstack.rag.documents import Block, ProblemError, Section
from lmstack.rag.formats.decoding import decode_text
from lmstack.rag.formats.limits import LoadConfig
from lmstack.rag.formats.markdown import sections_from_headings, text_structure
from lmstack.rag.formats.parsed import Parsed

__all__ = ["ENDINGS", "parse_source"]

_NAMES = """
    py pyi js mjs cjs jsx ts tsx java kt c h cc cpp hpp cs go rs rb php swift scala sh bash zsh ps1
    sql r jl lua pl toml yaml yml json ini cfg css scss tf proto graphql
"""
ENDINGS = tuple(f".{name}" for name in _NAMES.split())
# Lines this long on average, over so many characters, are nobody's work.
MINIFIED_LINE, MINIFIED_CHARS = 300, 10_000
_PYTHON = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*(?:"""|\Z)'
    r"|'''(?:[^'\\]|\\.|'(?!''))*(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\.)*"?'
    r"|'(?:[^'\\\n]|\\.)*'?"
    r"|#[^\n]*"
    r"|^(?P<indent>[ \t]*)(?:async[ \t]+)?(?:def|class)[ \t]+(?P<name>\w+)",
    re.M | re.S,
)


def parse_source(data: bytes, path: str, _config: LoadConfig) -> Parsed:
    """The code in ``data``, titled with its file's name."""
    text = decode_text(data)
    lines = text.count("\n") + 1
    if len(text) > MINIFIED_CHARS and len(text) > MINIFIED_LINE * lines:
        raise ProblemError(
            "format",
            f"is minified or generated: {len(text) // lines:,} characters a line",
            "leave it out, or index what it was made from",
        )
    _, sections, paragraphs = text_structure(text)
    blocks = [Block("code", block.start, block.end) for block in paragraphs]
    if os.path.splitext(path)[1].lower() in (".py", ".pyi"):
        sections = python_sections(text)
    return Parsed(text, os.path.basename(path), sections, blocks)


def python_sections(text: str) -> list[Section]:
    """A section for each class and function, decorators and comments above it included."""
    headings: list[tuple[int, int, str]] = []
    indents: list[int] = []
    for match in _PYTHON.finditer(text):
        if match["name"] is None:
            continue
        indent = len(match["indent"].expandtabs(8))
        while indents and indents[-1] >= indent:
            indents.pop()
        indents.append(indent)
        start = _with_lines_above(text, match.start(), headings[-1][0] + 1 if headings else 0)
        headings.append((start, len(indents), match["name"]))
    return sections_from_headings(headings, len(text))


def _with_lines_above(text: str, start: int, lowest: int) -> int:
    """Go up over decorators and comments that stand directly above ``start``."""
    while True:
        above = text.rfind("\n", lowest, max(start - 1, lowest))
        line_start = above + 1 if above >= 0 else 0
        if line_start < lowest or line_start >= start:
            return start
        if not text[line_start:start].lstrip().startswith(("@", "#")):
            return start
        start = line_start
