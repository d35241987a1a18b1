"""As much of a passage as answers: the unit that a model likes best, and what stands around it.

The best sentence alone holds an answer less often than the passage does, its whole paragraph as
often (docs/decisions.md). So a quotation grows from its `focus` to the paragraph, the list, the
table, the record or the block of code that it is part of, with what introduces that, as long as
there is room. Does not cover which passage is quoted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lmstack.rag.answer.units import ENDED, Unit, read_matter, read_rows, read_units, shown
from lmstack.rag.documents import BlockKind, Document, Page, page_of
from lmstack.rag.retrieve.hybrid import Hit
from lmstack.rag.retrieve.retrieval import HitDocuments

__all__ = ["Passage", "Quote", "choose_quotes", "read_passage"]

# Scores of texts for a question, higher is better, shape (len(texts),).
Score = Callable[[str, Sequence[str]], npt.NDArray[np.floating]]
DATA = frozenset(("csv", "jsonl"))
# Characters of a record that is about one thing, which its first line names: an address, a card.
RECORD = 400


@dataclass(frozen=True, slots=True)
class Quote:
    """``quote`` is the document's text between ``start`` and ``end``, ``shown`` how an answer
    shows it. ``focus`` is where the unit begins and ends that bears most on the question, and
    ``point`` that unit as it is shown; ``score`` is its own."""

    hit: Hit
    start: int
    end: int
    quote: str
    shown: str
    focus: tuple[int, int]
    point: str
    score: float = 0.0
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A hit, read: ``units`` of ``text``, which begins at ``offset`` of the document. Text of the
    section before the hit may be part of it, units there are not."""

    hit: Hit
    text: str
    offset: int
    units: tuple[Unit, ...]
    pages: tuple[Page, ...] = ()

    @property
    def readable(self) -> list[int]:
        """The units that say something."""
        return [
            n
            for n, unit in enumerate(self.units)
            if unit.kind != "heading" and any(map(str.isalnum, self.text[unit.start : unit.end]))
        ]

    def point(self, unit: Unit) -> str:
        return shown(self.text, [unit])

    def scored(self, unit: Unit) -> str:
        """``unit`` as it is scored, with the names in the question that its document begins with,
        but for those of one row or item among others: a line of a short record says little
        without the first."""
        text = self.point(unit)
        beside = [other for other in self.units if other.block == unit.block]
        is_short = beside[-1].end - beside[0].start <= RECORD
        if unit.kind == "line" and unit != beside[0] and is_short:
            text = f"{self.point(beside[0])}\n{text}"
        others = map(self.point, beside) if unit.kind in ("row", "item") else ()
        return self.hit.with_names(text, "\n".join(others))

    def quote(self, first: int, last: int, focus: int, score: float = 0.0) -> Quote:
        """Units ``first`` to ``last``."""
        start, end = self.units[first].start, self.units[last].end
        best = self.units[focus]
        return Quote(
            self.hit,
            self.offset + start,
            self.offset + end,
            self.text[start:end],
            shown(self.text, self.units[first : last + 1]),
            (self.offset + best.start, self.offset + best.end),
            self.point(best),
            score,
            page_of(self.pages, self.offset + best.start) if self.pages else self.hit.page,
        )


def read_passage(hit: Hit, documents: HitDocuments) -> Passage:
    """The units of a hit. The header of a table may stand before it, and so may the beginning of
    a fence."""
    document = documents.of(hit)
    if document is not None and document.format in DATA:
        return Passage(hit, hit.text, hit.start, tuple(read_rows(document, hit.start, hit.end)))
    by_lines = document is not None and document.format == "code"
    above = "" if by_lines else documents.above(hit)
    if not _is_open(above, hit.text):
        above = ""
    text = above + hit.text
    begin = hit.start - len(above)
    matter = max((end - begin for _, end in _spans(document, "matter")), default=0)
    front = read_matter(text, len(above), matter) if matter > len(above) else []
    units = _within(text, max(len(above), matter), read_units(text, by_lines=by_lines))
    headings = [(start - begin, end - begin) for start, end in _spans(document, "heading")]
    units = _with_headings([*front, *units], headings)
    return Passage(hit, text, begin, tuple(units), document.pages if document else ())


def _within(text: str, begin: int, units: Sequence[Unit]) -> list[Unit]:
    """Units from ``begin`` on, and what comes after it of one that began before."""
    found = []
    for unit in units:
        start = max(unit.start, begin)
        if unit.kind != "code":
            start += len(text[start : unit.end]) - len(text[start : unit.end].lstrip())
        if text[start : unit.end].strip():
            found.append(replace(unit, start=start))
    return found


def _spans(document: Document | None, kind: BlockKind) -> list[tuple[int, int]]:
    blocks = document.blocks if document is not None else ()
    return [(block.start, block.end) for block in blocks if block.kind == kind]


def _with_headings(units: list[Unit], headings: Sequence[tuple[int, int]]) -> list[Unit]:
    """Headings that only their document knows, by their size in print or by its markup. Where
    nothing else is said they are read as text."""
    found = [
        replace(unit, kind="heading")
        if any(start <= unit.start and unit.end <= end for start, end in headings)
        else unit
        for unit in units
    ]
    return found if any(unit.kind != "heading" for unit in found) else units


def _is_open(above: str, text: str) -> bool:
    """Whether a table or a fence that began in ``above`` may go on in ``text``."""
    line = text.lstrip().split("\n", 1)[0]
    return "```" in above or "~~~" in above or line.startswith("|") or line.rstrip().endswith(" |")


def choose_quotes(
    question: str,
    passages: Sequence[Passage],
    score: Score,
    room: int,
) -> list[Quote]:
    """Of each passage that says something the best quotation of about ``room`` characters (a
    longer focus is quoted whole)."""
    readable = [_unlike(question, passage) for passage in passages]
    texts = [
        passage.scored(passage.units[n])
        for passage, numbers in zip(passages, readable, strict=True)
        for n in numbers
    ]
    if not texts:
        return []
    scores = iter(np.asarray(score(question, texts), np.float64).tolist())
    found = []
    for passage, numbers in zip(passages, readable, strict=True):
        scored = {n: next(scores) for n in numbers}
        if scored:
            best = max(scored, key=lambda n: scored[n])
            first, last = _grown(passage, scored, best, room)
            found.append(passage.quote(first, last, best, scored[best]))
    return found


def _unlike(question: str, passage: Passage) -> list[int]:
    """The units that do not ask the question themselves: it is no answer to itself."""
    asked = _words(question)
    readable = passage.readable
    own = [n for n in readable if not _asks(passage.point(passage.units[n]), asked)]
    return own or readable


def _asks(text: str, asked: str) -> bool:
    """Whether ``text`` is nothing but what was asked, or a question that holds it. A statement
    that holds the words searched for may well answer."""
    words = _words(text)
    return words == asked or (asked in words and text.rstrip().endswith(("?", "？")))


def _words(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


def _grown(passage: Passage, scores: dict[int, float], best: int, room: int) -> tuple[int, int]:
    """The first and the last unit of the quotation around ``best``."""
    units = passage.units
    first = last = best
    while True:
        around = [
            (scores.get(n, float("-inf")), n)
            for n, beside in ((first - 1, first), (last + 1, last))
            if 0 <= n < len(units)
            and _belong_together(passage, min(n, beside))
            and max(units[last].end, units[n].end) - min(units[first].start, units[n].start) <= room
        ]
        if not around:
            return first, last
        n = max(around)[1]
        first, last = min(first, n), max(last, n)


def _belong_together(passage: Passage, n: int) -> bool:
    """Whether unit ``n`` and the next are of one paragraph, list, table or block of code, or the
    first introduces the second: it ends with a colon, or breaks off before code."""
    one, other = passage.units[n : n + 2]
    if one.block == other.block or one.kind == other.kind == "item":
        return True
    before = passage.text[one.start : one.end]
    if one.kind not in ("sentence", "item") or other.kind in ("sentence", "heading"):
        return False
    return before.endswith((":", "：")) or (other.kind == "code" and not ENDED.search(before))
