"""Long texts in pieces that a model can see: whole paragraphs, else sentences, else words.

    split(text, fits) -> pieces in order; joined with what stood between them they are the text

Nothing is dropped and nothing is said twice. Does not cover windows that overlap: see
`text.encode_windows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import nupunkt

__all__ = ["Piece", "join", "paragraphs", "split"]

Fits = Callable[[str], bool]
Span = tuple[int, int]

_BREAK = re.compile(r"\n[ \t]*\n\s*")
_WORD = re.compile(r"\S+")
# Punkt is linear in theory; in practice long texts without a blank line cost it dearly.
_MAX_PROSE = 20_000


@dataclass(frozen=True)
class Piece:
    """``gap``: what stood between this piece and the next."""

    text: str
    gap: str = ""


def join(pieces: Sequence[Piece], texts: Sequence[str]) -> str:
    """``texts`` in place of the pieces, with the same gaps."""
    return "".join(text + piece.gap for piece, text in zip(pieces, texts, strict=True)).strip()


def paragraphs(text: str) -> list[Piece]:
    """What blank lines separate."""
    return _pieces(text, _stripped(text, _between(text, _BREAK)))


def split(text: str, fits: Fits) -> list[Piece]:
    """As few pieces as whole paragraphs allow; one that does not fit is split at sentences, a
    sentence at words, a word at characters."""
    whole = _stripped(text, [(0, len(text))])
    spans = _packed(text, whole, fits, [_paragraph_spans, _sentence_spans, _word_spans])
    return _pieces(text, spans)


def _packed(
    text: str,
    spans: Sequence[Span],
    fits: Fits,
    finer: Sequence[Callable[[str, Span], list[Span]]],
) -> list[Span]:
    """Neighbours among ``spans`` joined while they fit; what does not fit alone, taken apart."""
    found: list[Span] = []
    for span in spans:
        if found and fits(text[found[-1][0] : span[1]]):
            found[-1] = (found[-1][0], span[1])
        elif fits(text[span[0] : span[1]]):
            found.append(span)
        elif finer:
            found += _packed(text, finer[0](text, span), fits, finer[1:])
        else:
            found += _cut(text, span, fits)
    return found


def _paragraph_spans(text: str, span: Span) -> list[Span]:
    return _within(text, span, lambda part: _between(part, _BREAK))


def _sentence_spans(text: str, span: Span) -> list[Span]:
    start, end = span
    found: list[Span] = []
    while start < end:
        stop = min(end, start + _MAX_PROSE)
        if stop < end:
            cut = text.rfind(" ", start + 1, stop)
            stop = cut if cut > start else stop
        found += _within(text, (start, stop), lambda part: list(nupunkt.sent_spans(part)))
        start = stop
    return found


def _word_spans(text: str, span: Span) -> list[Span]:
    return _within(text, span, lambda part: [m.span() for m in _WORD.finditer(part)])


def _cut(text: str, span: Span, fits: Fits) -> Iterator[Span]:
    """A word that is too long: as many characters at a time as fit, at least one."""
    start, end = span
    while start < end:
        low, high = start + 1, end
        while low < high:  # the longest prefix that fits, by bisection
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(text[start:middle]) else (low, middle - 1)
        yield start, low
        start = low


def _within(text: str, span: Span, spans: Callable[[str], list[Span]]) -> list[Span]:
    start, end = span
    found = [(start + a, start + b) for a, b in spans(text[start:end])]
    return _stripped(text, found)


def _between(text: str, separator: re.Pattern[str]) -> list[Span]:
    gaps = [match.span() for match in separator.finditer(text)]
    starts = [0, *(end for _, end in gaps)]
    return list(zip(starts, [*(start for start, _ in gaps), len(text)], strict=True))


def _stripped(text: str, spans: Sequence[Span]) -> list[Span]:
    """Without white space at their ends, and without those that hold nothing else."""
    found = []
    for start, end in spans:
        part = text[start:end]
        left, right = start + len(part) - len(part.lstrip()), start + len(part.rstrip())
        if left < right:
            found.append((left, right))
    return found


def _pieces(text: str, spans: Sequence[Span]) -> list[Piece]:
    ends = [start for start, _ in spans[1:]]
    gaps = [text[end:start] for (_, end), start in zip(spans, ends, strict=False)]
    return [
        Piece(text[start:end], gap) for (start, end), gap in zip(spans, [*gaps, ""], strict=False)
    ]
