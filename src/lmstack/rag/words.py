"""Words compared as a reader would: case, common endings and stop words aside.

A light suffix stripper for English (weak stemming), good enough to see that "cites" and "cited"
are one word; search itself uses the index's Porter stemmer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lmstack.rag.lexical import STOP_WORDS, content_words, pieces_of

__all__ = [
    "covered_share",
    "name_words",
    "number_words",
    "stem",
    "stems",
]

_ENDINGS = ("ations", "ation", "ingly", "edly", "ings", "ing", "ies", "ied", "ed", "es", "ly", "s")
_NUMBER = re.compile(r"\d[\d.,:]*\d|\d")
_WORD = re.compile(r"[^\W_]+")
_SHORTEST = 3
_ALIKE = 5


def stem(word: str) -> str:
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST:
            # "carries" and "carry" meet in "carr".
            word = word[: -len(ending)] + ("y" if ending in ("ies", "ied") else "")
            break
    # "located", "locate" and "locating" meet in "locat"; "stopped" and "stop" in "stop".
    if len(word) > _SHORTEST and word[-1] in "ey":
        return word[:-1]
    if len(word) > _SHORTEST and word[-1] == word[-2] and word[-1] not in "aeiouls":
        return word[:-1]
    return word


def stems(text: str) -> set[str]:
    return {stem(word) for word in content_words(text)}


def number_words(text: str) -> set[str]:
    """Numbers as written, thousands commas aside."""
    return {match.replace(",", "").strip(".:") for match in _NUMBER.findall(text)}


def name_words(text: str) -> list[str]:
    """Words that look like names or codes: with a capital or a digit, the first word aside
    unless it holds a digit. None where everything is capitalised."""
    words = _WORD.findall(text)
    plain = [word for word in words if word.islower()]
    if not plain:
        return []
    return [
        word
        for n, word in enumerate(words)
        if any(c.isdigit() or (n and c.isupper()) for c in word) and word.lower() not in STOP_WORDS
    ]


def covered_share(words: Mapping[str, float], text: str) -> float:
    """The share of the weight of ``words`` that occur in ``text``; 0 without words. Of a phrase
    without spaces (Chinese, Japanese, Korean) the share of its pairs of characters counts."""
    total = sum(words.values())
    if total <= 0:
        return 0.0
    present = stems(text)
    found = 0.0
    for word, weight in words.items():
        pairs = [piece for piece in pieces_of(word).split() if len(piece) > 1]
        if pairs:
            found += weight * sum(pair in text for pair in pairs) / len(pairs)
        else:
            found += weight * _occurs(stem(word), present)
    return found / total


def _occurs(word: str, present: set[str]) -> bool:
    """Itself, or a word that begins alike for most of its length ("accurate", "accuracy")."""
    if word in present:
        return True
    start = word[:_ALIKE]
    return len(start) == _ALIKE and any(
        other.startswith(start) and _common(word, other) >= 0.75 * max(len(word), len(other))
        for other in present
    )


def _common(one: str, other: str) -> int:
    """Length of the common beginning."""
    return next(
        (n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )
