"""Search by words: BM25 over the FTS5 postings, with a query that no text can break.

Words are stemmed (Porter) and freed of diacritics by the tokenizer of the postings. To it, a
Chinese, Japanese or Korean phrase is one long word; such words are posted in pieces of one and
two characters besides, and asked for in pieces of two. Other scripts without spaces (Thai, Lao,
Khmer) are found by meaning only (`dense`).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from itertools import islice, pairwise

import sqlalchemy as sa

__all__ = [
    "STOP_WORDS",
    "content_words",
    "inverse_frequencies",
    "lexical_search",
    "match_query",
    "pieces_of",
    "posting_blob",
]

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
# Han (with its extensions), kana and Hangul.
_RANGES = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_UNSPACED = re.compile(f"[{_RANGES}]")
_RUN = re.compile(f"([{_RANGES}]+)|[^\\W_{_RANGES}]+")
MAX_TERMS = 64
_OF_ACTIVE = "space_id = (SELECT id FROM spaces WHERE state = 'active')"


def content_words(text: str) -> list[str]:
    """Distinct words in order, stop words left out unless there is nothing else."""
    words = list(dict.fromkeys(word.lower() for word in _WORD.findall(text)))
    return [word for word in words if word not in STOP_WORDS] or words


def _pieces(word: str, *, asked: bool) -> list[str]:
    """A word that holds Chinese, Japanese or Korean as pairs of neighbours (and, unless
    ``asked`` for, single characters), and what else is in it as it is."""
    found: list[str] = []
    for run in _RUN.finditer(word):
        piece = run.group()
        if run.group(1) is None:
            found.append(piece)
            continue
        if not asked or len(piece) == 1:
            found.extend(piece)
        found.extend(map("".join, pairwise(piece)))
    return found


def _composed(text: str) -> str:
    """Kana in one way of writing: with their voice marks, not half as wide."""
    return unicodedata.normalize("NFKC", text) if _UNSPACED.search(text) else text


def pieces_of(text: str) -> str:
    """What the postings hold of a text besides its words; empty for most."""
    if not _UNSPACED.search(text):
        return ""
    words = (word for word in _WORD.findall(_composed(text)) if _UNSPACED.search(word))
    return " ".join(piece for word in words for piece in _pieces(word, asked=False))


def posting_blob(texts: Sequence[tuple[str, str]]) -> bytes:
    """The postings of one document, made of the (prefix, text) of its chunks in order."""
    del texts  # the words are in an FTS5 table as yet
    return b""


def _terms(word: str) -> list[str]:
    """FTS5 strings for one word; nothing in it is syntax."""
    pieces = _pieces(word, asked=True) if _UNSPACED.search(word) else [word]
    return [f'"{piece}"' for piece in pieces]


def match_query(text: str) -> str:
    """An FTS5 query for any of the words of ``text``; empty when it has none."""
    terms = (term for word in content_words(_composed(text)) for term in _terms(word))
    return " OR ".join(islice(dict.fromkeys(terms), MAX_TERMS))


def lexical_search(
    connection: sa.Connection, query: str, depth: int, allowed: frozenset[int] | None = None
) -> list[tuple[int, float]]:
    """(chunk id, BM25, higher is better), best first, of the ``allowed`` documents. Headings
    count half as much as text."""
    match = match_query(query)
    if not match:
        return []
    rows = connection.exec_driver_sql(
        "SELECT words.rowid, document_id, bm25(words, 0.5, 1.0, 1.0) AS score FROM words "
        f"JOIN chunks ON id = words.rowid WHERE words MATCH ? AND {_OF_ACTIVE} ORDER BY score",
        (match,),
    )
    found = ((int(row[0]), -float(row[2])) for row in rows if allowed is None or row[1] in allowed)
    return list(islice(found, depth))


def inverse_frequencies(
    connection: sa.Connection, words: Sequence[str], allowed: frozenset[int] | None = None
) -> dict[str, float]:
    """How telling each word is: ln((N + 1) / (n + 0.5)), n of N chunks holding it."""
    rows = connection.exec_driver_sql(
        f"SELECT document_id FROM chunks WHERE {_OF_ACTIVE}"
    ).scalars()
    total = sum(allowed is None or row in allowed for row in rows)
    result: dict[str, float] = {}
    for word in words[:MAX_TERMS]:
        found = connection.exec_driver_sql(
            "SELECT document_id FROM words JOIN chunks ON id = words.rowid "
            f"WHERE words MATCH ? AND {_OF_ACTIVE}",
            (" AND ".join(_terms(word)),),
        ).scalars()
        count = sum(allowed is None or row in allowed for row in found)
        result[word] = math.log((total + 1) / (count + 0.5))
    return result
