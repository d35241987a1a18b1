"""Citations of a model that writes: the grammar it is masked with, and the reader of its text.

The grammar (Lark, in llguidance's dialect) leaves the model no other number than those of the
passages. The reader holds the same line for models that cannot be masked: a number that does not
exist is never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from lmstack.core import Grammar

__all__ = ["NONE", "ClaimReader", "Written", "space_of", "writing_grammar"]

NONE = "The passages do not answer this."
MAX_RUN = 1200
_UNIT = re.compile(r"([^\[\]]*)((?:\s*\[\d{1,4}\])+)([.!?]*)")
_NUMBER = re.compile(r"\[(\d{1,4})\]")


def writing_grammar(numbers: int) -> Grammar:
    """Free text without brackets, each run followed by numbers between 1 and ``numbers``; or
    `NONE`."""
    cites = " | ".join(_literal(f"[{number}]") for number in range(1, numbers + 1))
    start = f"start: (TEXT cite{{1,3}})+ END? | {_literal(NONE)}"
    rules = [start, f"cite: {cites}", f"TEXT: /[^\\[\\]]{{1,{MAX_RUN}}}/", "END: /[.!?]/"]
    return Grammar("lark", "\n".join(rules) + "\n")


def _literal(text: str) -> str:
    """A string literal of the grammar. Its escapes are JSON's, and its lexer takes no character
    below a space or DEL as it is (JSON leaves DEL alone)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True)
class Written:
    """Text and the passage numbers after it, only those that exist. ``apart``: what stands before
    it, a space or one or two line ends."""

    text: str
    numbers: tuple[int, ...]
    apart: str = " "


def space_of(white: str) -> str:
    """``white`` space as an answer keeps it: words, lines and paragraphs stay apart."""
    return "\n" * min(2, white.count("\n")) or " "


@dataclass
class ClaimReader:
    """Cuts written text into runs that end with citation numbers."""

    numbers: int
    _text: str = ""

    def feed(self, text: str) -> Iterator[Written]:
        """Runs that are certainly complete: something follows their numbers."""
        self._text += text
        while (match := _UNIT.match(self._text)) and match.end() < len(self._text):
            rest = self._text[match.end() :]
            # "[1" may still become "[1]" or "[12]", and "[1] [" another number of this run.
            if not rest.strip() or re.fullmatch(r"\s*\[\d{0,4}", rest):
                return
            self._text = rest
            yield self._unit(match)

    def end(self) -> Iterator[Written]:
        while match := _UNIT.match(self._text):
            self._text = self._text[match.end() :]
            yield self._unit(match)
        left = self._text.replace("[", " ").replace("]", " ")
        self._text = ""
        if any(c.isalnum() for c in left):
            yield Written(left.strip(), (), _space_before(left))

    def _unit(self, match: re.Match[str]) -> Written:
        found = dict.fromkeys(int(n) for n in _NUMBER.findall(match.group(2)))
        kept = tuple(n for n in found if 1 <= n <= self.numbers)
        text = match.group(1)
        return Written((text.strip() + match.group(3)).strip(), kept, _space_before(text))


def _space_before(text: str) -> str:
    return space_of(text[: len(text) - len(text.lstrip())])
