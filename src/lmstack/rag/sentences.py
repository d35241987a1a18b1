"""Sentences as spans, for quoting and for cutting long paragraphs.

Lines are read first (headings, list items, table rows, the lines of a fence and paragraphs do
not run into one another), then each paragraph goes through nupunkt's Punkt model, which knows
sentences by the space after them. Where scripts have full stops of their own, or put no space after
a sentence, these end it too: Chinese and Japanese outside of brackets and quotation marks, as their
typesetting has it; Thai and Lao, which have no full stop, at spaces. Where the text is German, the
full stop of an ordinal ("am 3. Mai") ends none. Spans never
include the markers of lists, quotes and headings, nor white space at their ends; together they
hold every other character that is not white space, a fence line or a ruling line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import nupunkt

from lmstack.rag.words import STOP_WORDS

__all__ = ["Run", "line_runs", "sentence_spans", "split_prose"]

Span = tuple[int, int]
Run = tuple[int, int, Literal["prose", "item", "heading", "row", "code"]]
_LINE = re.compile(r"[^\n]*(?:\n|$)")
_MARKER = re.compile(
    r"[ \t]*(?:>[ \t]*)*(?:(?:[-*+•]|\d{1,9}[.)])[ \t]+(?:\[[ xX]\][ \t]+)?|#{1,6}[ \t]+)?"
)
_FENCE = re.compile(r"[ \t]*(?:>[ \t]*)*(```+|~~~+)")
_RULE = frozenset("-*_=|:+ \t\r\n")
# What Punkt looks at to see whether a sentence ends there; most lines of a manual have none.
_END = re.compile("[.?!\u2026](?=[\\s!?)\"';}\\]*:@({\\[\u201d\u00bb\u2019])")
# Full stops that Punkt does not know: Chinese and Japanese, then Indic, Armenian, Arabic, Ethiopic,
# Burmese and Khmer. A wide point within a number is none.
_STOPS = "。｡！？\u0964\u0965\u0589\u06d4\u061f\u1362\u104b\u17d4"
_WIDE_POINT = "．(?![0-9０-９A-Za-zＡ-Ｚａ-ｚ])"
_OPEN, _CLOSE = "「『（【《〈〔［“(", "」』）】》〉〕］”)"
# Of scripts without spaces, where a narrow sign may end a sentence with none after it.
_EAST = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uff66-\uff9f"
_THAI = "\u0e01-\u0e5b\u0e81-\u0edf"
_ENDS = (
    rf"(?:[{_STOPS}]|{_WIDE_POINT})+|(?<=[{_EAST}])[!?]+(?=[{_EAST}])"
    rf"|(?<=[{_THAI}])[ \t\n]+(?=[{_THAI}])"
)
_OTHER_END = re.compile(_ENDS)
_OTHER_SIGN = re.compile(
    rf"(?P<open>[{re.escape(_OPEN)}])|(?P<close>[{re.escape(_CLOSE)}])|{_ENDS}"
)
_CLOSED_END = re.compile(rf"(?:{_ENDS})[{re.escape(_CLOSE)}]*")
# A number that German may mean as an ordinal; of the word after it the case says little there.
_ORDINAL = re.compile(r"(?<![\w.,:])\d{1,3}\.(?P<gap>\s+)(?=(?P<next>[^\W_]+))")
_WORD = re.compile(r"[^\W\d_]+")
# The first letter of a word that follows another one, so that no sentence begins there.
_INNER = re.compile(r"(?<=[^\W\d_] )[^\W\d_]")
# Nouns make 30 % of these letters capital in German, names and titles 10 to 12 % in English and
# French; function words of English are 43 % of its words and 3 % of the German ones.
_LEAST_CAPITAL, _MOST_ENGLISH = 0.15, 0.15
_LANGUAGE_CHARS = 400
# Punkt is linear in theory; in practice long texts without a blank line cost it dearly.
_MAX_PROSE = 20_000


def sentence_spans(text: str) -> list[Span]:
    """Sentences of a chunk of Markdown, plain or extracted text, in order."""
    spans: list[Span] = []
    for start, end, kind in line_runs(text):
        prose = kind in ("prose", "item")
        spans.extend(split_prose(text, start, end) if prose else _stripped(text, start, end))
    return spans


def line_runs(text: str) -> Iterator[Run]:
    """Lines that belong together, without the markers before them: a paragraph, an item of a
    list, or a single line of another kind."""
    open_start: int | None = None
    kind: Literal["prose", "item"] = "prose"
    fence: str | None = None
    end = 0
    for match in _LINE.finditer(text):
        start, end = match.span()
        if start == end:
            break
        line = match.group()
        words = line.strip()
        if fence is None and words[:1].isalpha() and not words.endswith(" |"):
            # Most lines: no marker and no sign that could be one.
            if open_start is None:
                open_start = start + len(line) - len(line.lstrip(" \t"))
                kind = "prose"
            continue
        fenced = _FENCE.match(line)
        if fenced and (fence is None or fenced.group(1).startswith(fence)):
            if open_start is not None:
                yield open_start, start, kind
            fence = fenced.group(1)[:3] if fence is None else None
            open_start = None
        elif fence is not None:
            yield start, end, "code"
        else:
            marker = _MARKER.match(line)
            begin = start + (marker.end() if marker else 0)
            content = line[begin - start :].strip()
            row = line.lstrip().startswith("|") or line.rstrip().endswith(" |")
            alone = row or line.lstrip().startswith("#")
            if open_start is not None and (not content or alone or _starts_item(line)):
                yield open_start, start, kind
                open_start = None
            if not content or _RULE.issuperset(content):
                continue
            if alone:
                yield begin, end, "row" if row else "heading"
            elif open_start is None:
                open_start = begin
                kind = "item" if _starts_item(line) else "prose"
    if open_start is not None:
        yield open_start, len(text), kind


def _starts_item(line: str) -> bool:
    marker = _MARKER.match(line)
    return bool(marker and marker.group().strip(" \t>"))


def split_prose(text: str, start: int, end: int) -> list[Span]:
    """Sentences of ``text[start:end]``, a paragraph, stripped."""
    spans: list[Span] = []
    while end - start > _MAX_PROSE:
        most = start + _MAX_PROSE
        cut = text.rfind(" ", start + 1, most)
        if cut < 0:
            cut = 1 + max(text.rfind(stop, start, most) for stop in _STOPS)
        cut = cut if cut > start else most
        spans.extend(_punkt(text, start, cut))
        start = cut
    spans.extend(_punkt(text, start, end))
    return spans


def _punkt(text: str, start: int, end: int) -> list[Span]:
    ends = {start, end, *_other_ends(text, start, end)}
    if _END.search(text, start, end):
        ends.update(start + right for _, right in nupunkt.sent_spans(text[start:end]))
        ends -= _ordinals(text, start, end) - {start, end}
    pieces = pairwise(sorted(ends))
    return [span for left, right in pieces for span in _stripped(text, left, right)]


def _ordinals(text: str, start: int, end: int) -> set[int]:
    """Where Punkt may see an end after a German ordinal or within a date ("31. 12. 2024"). As in
    Punkt's own heuristic, a word begins a sentence if the text has it in lower case, too."""
    found = list(_ORDINAL.finditer(text, start, end))
    if not found:
        return set()
    around = text[max(0, start - _LANGUAGE_CHARS) : end + _LANGUAGE_CHARS]
    words, letters = _WORD.findall(around), _INNER.findall(around)
    if sum(word.lower() in STOP_WORDS for word in words) > _MOST_ENGLISH * len(words):
        return set()
    has_nouns = sum(map(str.isupper, letters)) > _LEAST_CAPITAL * len(letters)
    lower = {word for word in words if word.islower()}
    inner = (
        match
        for match in found
        if match["next"][0].isdigit() or (has_nouns and match["next"].lower() not in lower)
    )
    return {place for m in inner for place in range(m.start("gap"), m.end("gap") + 1)}


def _other_ends(text: str, start: int, end: int) -> list[int]:
    """Ends of sentences that Punkt does not see. What is in brackets belongs to the sentence
    around it, unless they do not match."""
    if not _OTHER_END.search(text, start, end):
        return []
    depth, found = 0, list[int]()
    for match in _OTHER_SIGN.finditer(text, start, end):
        if match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
        elif not depth:
            found.append(match.end())
        if depth < 0:
            break
    if depth:
        return [match.end() for match in _CLOSED_END.finditer(text, start, end)]
    return found


def _stripped(text: str, start: int, end: int) -> list[Span]:
    """The span without white space at its ends, or nothing if it holds nothing else."""
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    return [(start + left, start + right)] if left < right else []
