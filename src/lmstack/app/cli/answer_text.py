"""An answer as people read it: wrapped as it streams, then sources, then one line of figures.

Covers text only; what is in an answer is `lmstack.rag`'s. Quotes and model text come from
outside, so all of it goes through `printable`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from lmstack.app.formats import columns, printable, seconds

__all__ = [
    "WrappedStream",
    "conflict_line",
    "quoted",
    "source_lines",
    "status_line",
]

WIDTH = 76
INDENT = "  "
MAX_QUOTE = 110
# Shorter work at the index is no news to whoever waited for it.
FELT_S = 0.5


class WrappedStream:
    """Writes text that arrives in pieces as an indented block, breaking lines between words.

    Paragraphs (blank lines) stay, and so do the lines of code between two fences, which are not
    shown themselves. A word is held until its end is seen, so a line never has to be taken back.
    """

    def __init__(self, write: Callable[[str], None], width: int = WIDTH) -> None:
        self._write = write
        self._width = width
        self._column = 0
        self._word = ""
        self._breaks = 0
        self._started = False
        self._in_code = False
        self._space = ""  # before the next word of code

    def push(self, text: str) -> None:
        for part in re.findall(r"\n|[^\S\n]+|\S+", printable(text)):
            if part == "\n":
                self._end_word()
                self._breaks += 1
                self._space = ""
            elif part.isspace():
                self._end_word()
                self._space += part if self._in_code else ""
            else:
                self._word += part

    def close(self) -> None:
        self._end_word()
        if self._started:
            self._write("\n")

    def _end_word(self) -> None:
        if not self._word:
            return
        word, self._word = self._word, ""
        space, self._space = self._space, ""
        if word.startswith("```") and (self._breaks or not self._started):
            self._in_code = not self._in_code
            return
        fits = self._in_code or self._column + 1 + len(word) <= self._width
        if not self._started:
            lead = INDENT + space
        elif self._breaks > 1:
            lead = "\n\n" + INDENT + space
        elif self._breaks == 1 or not fits:
            lead = "\n" + INDENT + space
        else:
            lead = space or " "
        starts_line = not self._started or self._breaks > 0 or not fits
        self._column = (0 if starts_line else self._column + 1) + len(word)
        self._started, self._breaks = True, 0
        self._write(lead + word)


def quoted(quote: str) -> str:
    """A quote on one line, cut in the middle of nothing."""
    flat = " ".join(printable(quote).split())
    if len(flat) > MAX_QUOTE:
        flat = flat[:MAX_QUOTE].rsplit(" ", 1)[0] + " …"
    return f'"{flat}"'


def source_lines(sources: list[tuple[int, str, str]]) -> list[str]:
    """``(id, place, quote)`` as ``[1] docs/a.md:12-14   "..."``, aligned."""
    return columns([(f"[{number}] {place}", quoted(quote)) for number, place, quote in sources])


def conflict_line(relation: str, citation: int, date: str, place: str, quote: str) -> str:
    """``[1] An older edition (2019-03-04) says otherwise: docs/a.md:12   "..."``."""
    who = "Another document" if relation == "other" else f"An {relation} edition"
    who = "A newer edition" if relation == "newer" else who
    when = f" ({printable(date, one_line=True)})" if date else ""
    return f"  [{citation}] {who}{when} says otherwise: {place}   {quoted(quote)}"


def status_line(
    *,
    model: str,
    digest: str | None,
    first_word_s: float,
    indexing_s: float,
    writing_s: float,
    tokens: int,
    cited: int,
    passages: int,
    reused: float = 0.0,
    served: bool = False,
) -> str:
    """``smollm2-135m-instruct@3f2a91c · 9.1 s to first word (7.0 s indexing) · 152 tokens/s ·
    2 of 8 passages cited``. ``first_word_s`` is what was waited, ``indexing_s`` of it for the
    index, which is said where it is felt; ``writing_s`` what the tokens after the first took: one
    token has no speed. ``reused``: the share of the prompts that was computed before. ``served``:
    by a running `lmstack up`."""
    short = digest.removeprefix("sha256:")[:7] if digest else ""
    indexed = f" ({seconds(indexing_s)} indexing)" if indexing_s >= FELT_S else ""
    waited = f"{seconds(first_word_s)} to first word{indexed}"
    parts = [f"{model}@{short}" if short else model, waited]
    if tokens > 1 and writing_s > 0:
        parts.append(f"{(tokens - 1) / writing_s:.0f} tokens/s")
    if reused:
        parts.append(f"prefix {reused:.0%}")
    parts.append(f"{cited} of {passages} passages cited")
    if served:
        parts.append("served")
    return " · ".join(parts)
