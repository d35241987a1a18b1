"""Citations by construction: the grammars a decoder is masked with, and readers of the output.

The grammars (Lark, in llguidance's dialect) leave the model no other number than those of the
passages, and for quotations no other text than their sentences. The readers hold the same line
for models that cannot be masked: a number or a sentence that does not exist is never shown.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lmstack.core import Grammar
from lmstack.rag.answers.evidence import Candidate

__all__ = [
    "NONE",
    "Chosen",
    "ClaimReader",
    "QuotationReader",
    "Unit",
    "generative_grammar",
    "quotation_grammar",
]

NONE = "The passages do not answer this."
MAX_RUN = 1200
_LABEL = re.compile(r"\s*\[(\d{1,4})\] ")
_UNIT = re.compile(r"([^\[\]]*)((?:\s*\[\d{1,4}\])+)([.!?]*)")
_NUMBER = re.compile(r"\[(\d{1,4})\]")


def quotation_grammar(
    candidates: Sequence[Candidate], max_sentences: int, *, none: bool
) -> Grammar:
    """One to ``max_sentences`` lines, each ``[number] sentence`` with a sentence of that
    passage."""
    by_number: dict[int, list[str]] = {}
    for candidate in candidates:
        by_number.setdefault(candidate.number, []).append(candidate.shown)
    lines = [f"p{number}: {_literal(f'[{number}] ')} S{number}" for number in by_number]
    lines += [
        f"S{number}: {' | '.join(_literal(shown) for shown in dict.fromkeys(texts))}"
        for number, texts in by_number.items()
    ]
    item = "item: " + " | ".join(f"p{number}" for number in by_number)
    more = f' ("\\n" item){{0,{max_sentences - 1}}}' if max_sentences > 1 else ""
    start = f"start: item{more}" + (f" | {_literal(NONE)}" if none else "")
    return Grammar("lark", "\n".join([start, item, *lines]) + "\n")


def generative_grammar(numbers: int, *, none: bool) -> Grammar:
    """Free text without brackets, each run followed by numbers between 1 and ``numbers``."""
    cites = " | ".join(_literal(f"[{number}]") for number in range(1, numbers + 1))
    start = "start: (TEXT cite{1,3})+ END?" + (f" | {_literal(NONE)}" if none else "")
    rules = [start, f"cite: {cites}", f"TEXT: /[^\\[\\]]{{1,{MAX_RUN}}}/", "END: /[.!?]/"]
    return Grammar("lark", "\n".join(rules) + "\n")


def _literal(text: str) -> str:
    """A string literal of the grammar. Its escapes are JSON's, and its lexer takes no character
    below a space or DEL as it is (JSON leaves DEL alone)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@dataclass(frozen=True, slots=True)
class Chosen:
    """The sentence that the lines up to here complete."""

    candidate: Candidate


@dataclass
class QuotationReader:
    """Reads ``[number] sentence`` lines as they are written.

    Yields text as soon as it can only become a sentence that was not chosen before, and
    `Chosen` when it has. Text once shown is always completed to a sentence: where the model
    breaks off, the one with the most evidence among those that begin so is taken.
    """

    candidates: Sequence[Candidate]
    max_sentences: int
    chosen: list[Candidate] = field(default_factory=list)
    said_none: bool = False
    _line: str = ""
    _pool: list[Candidate] | None = None
    _shown: int = 0

    @property
    def full(self) -> bool:
        return len(self.chosen) >= self.max_sentences

    @property
    def only(self) -> Candidate | None:
        """The candidate that the current line must become, if there is one left."""
        return self._pool[0] if self._pool and len(self._pool) == 1 else None

    def feed(self, text: str) -> Iterator[str | Chosen]:
        while text and not self.full:
            head, newline, text = text.partition("\n")
            self._line += head
            yield from self._advance()
            if newline:
                yield from self.end_line()

    def end_line(self) -> Iterator[str | Chosen]:
        """The model went on to another line, or stopped."""
        if self._line.strip() == NONE:
            self.said_none = True
        begun = self._pool if self._shown else self._whole()
        if begun and not self.full:
            body = self._body()
            exact = [c for c in begun if c.shown == body]
            best = exact[0] if exact else max(begun, key=lambda c: c.evidence)
            if self._shown < len(best.shown):
                yield best.shown[self._shown :]
            self.chosen.append(best)
            yield Chosen(best)
        self._line, self._pool, self._shown = "", None, 0

    def _advance(self) -> Iterator[str | Chosen]:
        """Narrow what the line can become, and show what all of it agrees on."""
        label = _LABEL.match(self._line)
        if label is None:
            return
        if self._pool is None:
            number = int(label.group(1))
            self._pool = [c for c in self.candidates if c.number == number and c not in self.chosen]
        body = self._body()
        left = [c for c in self._pool if c.shown.startswith(body)]
        if left and len(body) > self._shown:
            self._pool = left
            yield body[self._shown :]
            self._shown = len(body)

    def _whole(self) -> list[Candidate]:
        """Without text shown, only a line that is a whole sentence counts."""
        body = self._body()
        return [c for c in self._pool or () if body and c.shown == body]

    def _body(self) -> str:
        label = _LABEL.match(self._line)
        return self._line[label.end() :].rstrip() if label else ""


@dataclass(frozen=True, slots=True)
class Unit:
    """Text and the passage numbers after it, only those that exist."""

    text: str
    numbers: tuple[int, ...]


@dataclass
class ClaimReader:
    """Cuts written text into runs that end with citation numbers."""

    numbers: int
    _text: str = ""

    def feed(self, text: str) -> Iterator[Unit]:
        """Runs that are certainly complete: something follows their numbers."""
        self._text += text
        while (match := _UNIT.match(self._text)) and match.end() < len(self._text):
            rest = self._text[match.end() :]
            # "[1" may still become "[1]" or "[12]", and "[1] [" another number of this run.
            if not rest.strip() or re.fullmatch(r"\s*\[\d{0,4}", rest):
                return
            self._text = rest
            yield self._unit(match)

    def end(self) -> Iterator[Unit]:
        while match := _UNIT.match(self._text):
            self._text = self._text[match.end() :]
            yield self._unit(match)
        left = self._text.replace("[", " ").replace("]", " ").strip()
        self._text = ""
        if any(c.isalnum() for c in left):
            yield Unit(left, ())

    def _unit(self, match: re.Match[str]) -> Unit:
        found = dict.fromkeys(int(n) for n in _NUMBER.findall(match.group(2)))
        kept = tuple(n for n in found if 1 <= n <= self.numbers)
        return Unit((match.group(1).strip() + match.group(3)).strip(), kept)
