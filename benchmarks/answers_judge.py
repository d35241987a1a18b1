"""Whether what was shown answers a question: normalisation, spans of gold, one item's verdict.

What is shown is right if some of it was taken from the gold and, where the set gives the words of
an answer, holds these. Text overlaps a gold span if they share at least half of the shorter one, so
that a passage does not count for its last words. Words are normalised as for SQuAD (Rajpurkar et
al. 2016): lower case, without punctuation and articles. Free-text answers count if two thirds of
their words stand within ``WINDOW`` words, so that a long passage does not collect them from all
over. Patterns are searched in whatever is shown, a refusal included.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from answers_data import Gold, Item, Patterns

__all__ = [
    "RECALL",
    "WINDOW",
    "Shown",
    "Span",
    "contains",
    "gold_spans",
    "is_right",
    "keeps",
    "normalized",
    "num_precise",
    "overlaps",
    "recall",
    "shows_gold",
]

WINDOW, RECALL = 40, 0.67
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MARK = re.compile(r"§ (\d+)(?!\d)")


@dataclass(frozen=True)
class Span:
    """Part of a file's text, as it was indexed."""

    path: str
    start: int
    end: int


@dataclass(frozen=True)
class Shown:
    """What a system shows, and where it took it from. ``confidence``: the higher, the surer that
    the documents answer."""

    text: str
    spans: tuple[Span, ...]
    confidence: float
    refused: bool = False
    seconds: float = 0.0
    valid: int = 0
    conflict: bool = False


def normalized(text: str) -> str:
    plain = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


def contains(text: str, answer: str) -> bool:
    """Whether the words of ``answer`` stand in ``text``, one after another."""
    wanted = normalized(answer)
    return bool(wanted) and f" {wanted} " in f" {normalized(text)} "


def recall(text: str, answer: str) -> float:
    """The share of the words of ``answer`` within the best ``WINDOW`` words of ``text``."""
    words, wanted = normalized(text).split(), Counter(normalized(answer).split())
    if not wanted:
        return 0.0
    starts = range(max(1, len(words) - WINDOW + 1))
    best = max((Counter(words[start : start + WINDOW]) & wanted).total() for start in starts)
    return best / wanted.total()


def gold_spans(gold: Gold, text: str) -> list[tuple[int, int]]:
    """Where ``gold`` is in the text of its document."""
    if gold.section is not None:
        marks = list(_MARK.finditer(text))
        ends = [*(mark.start() for mark in marks), len(text)]
        return [
            (mark.end(), ends[place])
            for place, mark in enumerate(marks, 1)
            if int(mark.group(1)) == gold.section
        ]
    if gold.quotes:
        found = ((text.find(quote), len(quote)) for quote in gold.quotes)
        return [(start, start + length) for start, length in found if start >= 0]
    return [(0, len(text))]


def overlaps(a: tuple[int, int], b: tuple[int, int]) -> bool:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    return shared > 0 and 2 * shared >= min(a[1] - a[0], b[1] - b[0])


def shows_gold(item: Item, span: Span, texts: Mapping[str, str]) -> bool:
    """Whether ``span`` was taken from a gold of ``item``."""
    return any(
        gold.path == span.path
        and not gold.left_out
        and any(
            overlaps((span.start, span.end), each) for each in gold_spans(gold, texts[span.path])
        )
        for gold in item.golds
    )


def _says(item: Item, text: str) -> bool:
    if not item.answers:
        return True
    if item.match == "contains":
        return any(contains(text, answer) for answer in item.answers)
    return any(recall(text, answer) >= RECALL for answer in item.answers)


def is_right(item: Item, shown: Shown, texts: Mapping[str, str]) -> bool:
    return (
        item.status == "answerable"
        and not shown.refused
        and any(shows_gold(item, span, texts) for span in shown.spans)
        and _says(item, shown.text)
    )


def num_precise(item: Item, spans: Sequence[Span], texts: Mapping[str, str]) -> int:
    """How many of ``spans`` would be right by themselves."""
    return sum(
        shows_gold(item, span, texts) and _says(item, texts[span.path][span.start : span.end])
        for span in spans
    )


def keeps(patterns: Patterns, text: str) -> bool:
    """Whether ``text`` holds what it must and nothing that it must not."""

    def matches(pattern: str) -> bool:
        return re.search(pattern, text, re.IGNORECASE) is not None

    return not any(map(matches, patterns.forbidden)) and (
        sum(map(matches, patterns.required)) >= patterns.at_least
    )
