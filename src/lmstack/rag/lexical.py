"""Search by words: BM25 over the FTS5 postings, with a query that no text can break.

Words are stemmed (Porter) and freed of diacritics by the tokenizer of the postings. Languages
written without spaces are one long word to it and are found by meaning instead (`dense`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import sqlalchemy as sa

__all__ = ["STOP_WORDS", "content_words", "inverse_frequencies", "lexical_search", "match_query"]

_STOP_WORDS = (
    "a about all also an and any are as at be been being but by can could did do does doing "
    "for from had has have having he her here him his how i if in into is it its itself just "
    "let may me might more most must my no nor not of on once only or our out over own same "
    "shall she should so some such than that the their them then there these they this those "
    "through to too up us very was we were what when where which while who whom whose why "
    "will with would you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
_WORD = re.compile(r"[^\W_]+")
MAX_TERMS = 64


def content_words(text: str) -> list[str]:
    """Distinct words in order, stop words left out unless there is nothing else."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))
    return [word for word in words if word not in STOP_WORDS] or words


def match_query(text: str) -> str:
    """An FTS5 query for any of the words of ``text``; empty when it has none. Each word is a
    quoted string, so nothing in it is syntax."""
    return " OR ".join(f'"{word}"' for word in content_words(text)[:MAX_TERMS])


def lexical_search(connection: sa.Connection, query: str, depth: int) -> list[tuple[int, float]]:
    """(chunk id, BM25, higher is better), best first. Headings count half as much as text."""
    match = match_query(query)
    if not match:
        return []
    rows = connection.exec_driver_sql(
        "SELECT rowid, bm25(postings, 0.5, 1.0) AS score FROM postings WHERE postings MATCH ? "
        "ORDER BY score LIMIT ?",
        (match, depth),
    )
    return [(int(row[0]), -float(row[1])) for row in rows]


def inverse_frequencies(connection: sa.Connection, words: Sequence[str]) -> dict[str, float]:
    """How telling each word is: ln((N + 1) / (n + 0.5)), n of N chunks holding it."""
    total = int(connection.exec_driver_sql("SELECT count(*) FROM chunks").scalar_one())
    result: dict[str, float] = {}
    for word in words[:MAX_TERMS]:
        rows = connection.exec_driver_sql(
            "SELECT count(*) FROM postings WHERE postings MATCH ?", (f'"{word}"',)
        )
        result[word] = math.log((total + 1) / (int(rows.scalar_one()) + 0.5))
    return result
