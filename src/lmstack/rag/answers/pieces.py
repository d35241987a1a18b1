"""What of a passage can be quoted, and what a reader has in mind when reading it.

A piece is a sentence, a row of a table, or an introduction with the code it introduces. Code,
titles and lists of links are kept apart: they name things and seldom answer. Covers the shape
of the text only; `evidence` says which piece bears on a question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from lmstack.rag.sentences import Run, line_runs, split_prose

__all__ = ["Piece", "PieceKind", "read_pieces"]

PieceKind = Literal["prose", "row", "code", "title", "link"]
MAX_INTRODUCED = 400
MAX_TITLE = 90
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_LINK = re.compile(r"!?\[[^\]]*\]\([^)]*\)|https?://\S+")
_CELL = re.compile(r"(?<!\\)\|")
_LINE = re.compile(r"[^\n]*\S[^\n]*")
_MISSED = re.compile(r"\b([a-z]{3,})([.!?])\s+(?=[A-Z][a-z]*\b)")
_SHORT = (
    "approx max min dept fig est incl excl resp etc vol nos sec art par ext tel ave gen col sen "
    "rev prof cap chap ref tab eds misc temp qty"
)
_ABBREVIATED = frozenset(_SHORT.split())
_END = re.compile(r"[.!?…。！？][\"')\]»”’*_`]*$")


@dataclass(frozen=True, slots=True)
class Piece:
    """``text[start:end]``; ``shown`` is it on one line, cells named by the table's header.
    ``before``: the sentence that it goes on from, or that introduces its list. ``bare``: of a
    row with two cells those alone, a name and its value; of others as shown."""

    start: int
    end: int
    kind: PieceKind
    shown: str
    before: str = ""
    pair: str = ""

    @property
    def bare(self) -> str:
        return self.pair or self.shown


def read_pieces(text: str) -> list[Piece]:
    """Pieces of Markdown, plain or extracted text, in order. Headings are not among them."""
    runs = _join_code(text, line_runs(text))
    pieces: list[Piece] = []
    introduction = ""
    header: list[str] = []
    for n, run in enumerate(runs):
        start, end, kind = run
        if kind == "row":
            if n == 0 or runs[n - 1][2] != "row":
                header = _cells(text[start:end])
                if n + 1 < len(runs) and runs[n + 1][2] == "row":
                    continue
            pieces.append(_row(text, run, header))
        elif kind == "code":
            if not (pieces and pieces[-1].end >= end - 1):
                pieces += _code(text, run)
        elif kind in ("prose", "item"):
            found = list(_prose(text, run, introduction if kind == "item" else ""))
            if n + 1 < len(runs) and runs[n + 1][2] == "code" and found:
                found[-1] = _with_code(text, found[-1], runs[n + 1])
            pieces += found
            if kind == "prose":
                introduction = found[-1].shown if found and found[-1].shown.endswith(":") else ""
        else:
            introduction = ""
    return pieces


def _join_code(text: str, found: Iterator[Run]) -> list[Run]:
    """The lines of one fence as one run."""
    runs: list[Run] = []
    for run in found:
        follows = runs and runs[-1][2] == run[2] == "code"
        if follows and not text[runs[-1][1] : run[0]].strip():
            runs[-1] = (runs[-1][0], run[1], "code")
        else:
            runs.append(run)
    return runs


def _prose(text: str, run: Run, introduction: str) -> Iterator[Piece]:
    """Sentences of a paragraph or an item, each with the one before it."""
    before = introduction
    spans = [
        part for span in split_prose(text, run[0], run[1]) for part in _split_missed(text, *span)
    ]
    for start, end in spans:
        comment = re.match(r"(?:<!--.*?-->\s*)+", text[start:end], re.S)
        start += comment.end() if comment else 0
        if start == end or text.startswith("<!--", start):
            continue
        piece = _piece(text, start, end, _kind(text[start:end], run, len(spans)), before)
        yield piece
        before = piece.shown


def _split_missed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Sentences that Punkt takes for one: after a plain word, a capital begins another."""
    for match in _MISSED.finditer(text, start, end):
        if match[1].lower() not in _ABBREVIATED:
            yield start, match.end(2)
            start = match.end()
    if start < end:
        yield start, end


def _kind(quote: str, run: Run, sentences: int) -> PieceKind:
    shown = quote.strip()
    left = _LINK.sub("", shown)
    if len(left) < len(shown) and sum(c.isalnum() for c in left) <= len(shown) // 4:
        return "link"
    short = len(shown) <= MAX_TITLE and "\n" not in shown
    alone = run[2] == "prose" and sentences == 1
    return "title" if alone and short and not _END.search(shown) and shown[-1] != ":" else "prose"


def _row(text: str, run: Run, header: Sequence[str]) -> Piece:
    start, end, _ = run
    end = start + len(text[start:end].rstrip())
    cells = _cells(text[start:end])
    named = [
        f"{name}: {cell}" if name else cell
        for name, cell in zip([*header, *[""] * len(cells)], cells, strict=False)
        if cell
    ]
    shown = ", ".join(cells) if list(cells) == list(header) else "; ".join(named)
    filled = [cell for cell in cells if cell]
    pair = ": ".join(filled) if len(filled) == 2 else ""
    return Piece(start, end, "row", shown, pair=pair)


def _cells(line: str) -> list[str]:
    return [" ".join(cell.split()) for cell in _CELL.split(line.strip().strip("|"))]


def _code(text: str, run: Run) -> Iterator[Piece]:
    """A short block whole, a long one line by line."""
    start, end, _ = run
    lines = [(start, end)]
    if len(text[start:end].strip()) > MAX_INTRODUCED:
        lines = [(start + m.start(), start + m.end()) for m in _LINE.finditer(text[start:end])]
    for left, right in lines:
        yield _piece(text, left, right, "code", "")


def _with_code(text: str, piece: Piece, code: Run) -> Piece:
    """An introduction that ends in the middle ("Check it with", "like this:") and its code."""
    if piece.kind == "link" or _END.search(piece.shown):
        return piece
    end = code[0] + len(text[code[0] : code[1]].rstrip())
    lines = [line.strip() for line in text[code[0] : end].splitlines() if line.strip()]
    shown = f"{piece.shown} {' '.join(f'`{line}`' for line in lines)}"
    if len(shown) > MAX_INTRODUCED:
        return piece
    return Piece(piece.start, end, "prose", shown, piece.before)


def _piece(text: str, start: int, end: int, kind: PieceKind, before: str) -> Piece:
    quote = text[start:end]
    left = len(quote) - len(quote.lstrip())
    end = start + len(quote.rstrip())
    shown = " ".join(_COMMENT.sub(" ", text[start + left : end]).split())
    return Piece(start + left, end, kind, shown, before)
