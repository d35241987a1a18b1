"""Words of documents and questions: as terms that postings keep, and as a reader compares them.

A term is the stem (Snowball English) of a word in lower case without diacritics. Of a compound
(``os.path.join``, ``e-mail``, ``1,024``) the parts and the whole are posted, so that ``email``
finds ``e-mail``; of ``CamelCase`` the humps besides. A Chinese, Japanese or Korean phrase has no
spaces: it is posted in pieces of one and two characters, and asked for in pieces of two. Other
scripts without spaces (Thai, Lao, Khmer) are found by meaning only (`dense`). A term is kept as
the first 64 bits of its BLAKE2b hash: among a million terms two meet with odds of 1 to 37 million.

Where answers are compared with passages, a word counts as there where one stands that begins alike
for most of its length. Covers one document at a time; `bm25` holds many and ranks.
"""

from __future__ import annotations

import hashlib
import re
import struct
import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import Stemmer

from lmstack.core import IntegrityError

__all__ = [
    "POSTINGS_VERSION",
    "STOP_WORDS",
    "Hashes",
    "Postings",
    "Terms",
    "content_words",
    "covered_share",
    "fold",
    "is_of_other_version",
    "name_words",
    "number_words",
    "pieces_of",
    "posting_blob",
    "query_terms",
    "read_postings",
    "stem",
    "tokens_in",
    "word_terms",
]

Hashes = npt.NDArray[np.uint64]
Terms = tuple[int, ...]
# Another version of the stemmer may make other terms, and then every document must be reindexed.
POSTINGS_VERSION = f"1 {Stemmer.version()}"

_STOP_WORDS = (
    "a about all also an and any are as at be been being but by can could did do does doing "
    "for from had has have having he her here him his how i if in into is it its itself just "
    "let may me might more most must my no nor not of on once only or our out over own same "
    "shall she should so some such than that the their them then there these they this those "
    "through to too up us very was we were what when where which while who whom whose why "
    "will with would you your"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
# Han (with its extensions), kana and Hangul.
_RANGES = (
    "\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3130-\u318f\u31f0-\u31ff\u3400-\u4dbf"
    "\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_UNSPACED = re.compile(f"[{_RANGES}]")
_RUN = re.compile(f"([{_RANGES}]+)|[^\\W_{_RANGES}]+")
# Marks that a reader leaves out when typing: diacritics, Hebrew points, Arabic vowels.
_MARKS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c7\u064b-\u065f\u0670]+")
# A letter or digit, or a vowel sign of an Indic script, which Python does not count as one.
_SIGN = "(?:[^\\W_]|[\u0900-\u0963\u0970-\u0dff\u0e31-\u0e3a\u0e47-\u0e4e])"
_WORD = re.compile(f"{_SIGN}+")
_TOKEN = re.compile(f"{_SIGN}+(?:(?:[.\\-]|_+|(?<=[0-9]),(?=[0-9]{{3}})){_SIGN}+)*")
_JOINT = re.compile(r"[._,\-]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
# What an apostrophe leaves of "it's", "don't", "they'll" is no word.
_CLITIC = re.compile(r"(?<=\w)['\u2019](?:s|t|d|m|re|ve|ll)(?!\w)", re.IGNORECASE)
MAX_TERMS = 64
MAX_PARTS = 8
_LONGEST_KEPT = 40
_KEPT_TOKENS = 300_000
_HEADER = struct.Struct("<4s4sIII")
_MAGIC = b"lmsp"
_VERSION = hashlib.blake2b(POSTINGS_VERSION.encode(), digest_size=4).digest()
_stemmers = threading.local()


def content_words(text: str) -> list[str]:
    """Distinct words in order, stop words left out unless there is nothing else."""
    if not text.isascii():  # a mark that is no part of a letter parts no word, as in what is found
        text = _MARKS.sub("", unicodedata.normalize("NFC", text))
    found = _WORD.findall(_CLITIC.sub("", text))
    words = list(dict.fromkeys(word.lower() for word in found))
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


def pieces_of(text: str) -> str:
    """The pieces of the phrases without spaces in a text; empty for most."""
    if not _UNSPACED.search(text):
        return ""
    words = (word for word in _WORD.findall(fold(text)) if _UNSPACED.search(word))
    return " ".join(piece for word in words for piece in _pieces(word, asked=False))


def fold(text: str) -> str:
    """One way of writing for what reads the same: no diacritics, no ligatures, kana with their
    voice marks, not half as wide."""
    if text.isascii():
        return text
    apart = unicodedata.normalize("NFKD", text)
    return unicodedata.normalize("NFKC", _MARKS.sub("", apart))


def stem(word: str) -> str:
    """By Snowball English, of a word of any case."""
    stemmer = getattr(_stemmers, "english", None)
    if stemmer is None:  # one a thread: a stemmer must not be shared
        stemmer = _stemmers.english = Stemmer.Stemmer("english", 0)
    return str(stemmer.stemWord(word.lower()))


def _token_terms(token: str, *, asked: bool = False) -> Iterator[str]:
    """The terms of what stands between spaces and signs. A stop word within a compound is not
    ``asked`` for."""
    parts = _JOINT.split(token)
    for part in parts:
        if asked and len(parts) > 1 and part.lower() in STOP_WORDS:
            continue
        if _UNSPACED.search(part):
            yield from map(stem, _pieces(part, asked=asked))
            continue
        yield stem(part)
        humps = _HUMP.split(part) if part.isascii() else []
        if 1 < len(humps) <= MAX_PARTS:
            yield from map(stem, humps)
    if 1 < len(parts) <= MAX_PARTS:
        yield stem("".join(parts))


def _hash(term: str) -> bytes:
    return hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()


_kept: dict[tuple[str, bool], bytes] = {}


def _hashes(token: str, *, asked: bool = False) -> bytes:
    """The hashes of a token's terms, one after the other."""
    found = _kept.get((token, asked))
    if found is None:
        found = b"".join(map(_hash, _token_terms(token, asked=asked)))
        if len(token) <= _LONGEST_KEPT:
            if len(_kept) >= _KEPT_TOKENS:
                _kept.clear()
            _kept[token, asked] = found
    return found


def tokens_in(text: str) -> list[re.Match[str]]:
    """Words as they are written, whole compounds ("AX-4471-B"); ``text`` is one of `fold`."""
    return list(_TOKEN.finditer(_CLITIC.sub("", text)))


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(_CLITIC.sub("", fold(text)))


def _text_terms(text: str) -> bytes:
    return b"".join(map(_hashes, _tokens(text)))


def query_terms(text: str) -> Terms:
    """The terms to look for: at most `MAX_TERMS`, each once, stop words left out unless there
    is nothing else; none when the text has no word."""
    tokens = _tokens(text)
    telling = [token for token in tokens if token.lower() not in STOP_WORDS] or tokens
    data = b"".join([_hashes(token, asked=True) for token in telling])
    return tuple(dict.fromkeys(struct.unpack(f"<{len(data) // 8}Q", data)))[:MAX_TERMS]


def word_terms(word: str) -> Terms:
    """The terms that a text must hold for `word` (one of `content_words`) to occur in it."""
    return query_terms(word)


@dataclass(frozen=True, slots=True)
class Postings:
    """One document's. Term ``hashes[i]`` (ascending) occurs in ``counts[i]`` chunks; their
    ``rows`` (counted within the document) and ``frequencies`` follow one another, term by term.
    ``lengths``: how many terms each chunk has, its headings counted in, repetitions too."""

    hashes: Hashes
    counts: npt.NDArray[np.uint32]
    rows: npt.NDArray[np.uint32]
    frequencies: npt.NDArray[np.uint16]
    lengths: npt.NDArray[np.uint32]


def posting_blob(texts: Sequence[tuple[str, str]]) -> bytes:
    """The postings of a document from the (prefix, text) of its chunks, for `read_postings`."""
    found = [_text_terms(prefix) + _text_terms(text) for prefix, text in texts]
    lengths = np.array([len(data) // 8 for data in found], np.int64)
    hashes, term = np.unique(np.frombuffer(b"".join(found), "<u8"), return_inverse=True)
    row = np.repeat(np.arange(len(found)), lengths)
    places, frequencies = np.unique(term * max(len(found), 1) + row, return_counts=True)
    term, rows = np.divmod(places, max(len(found), 1))
    counts = np.bincount(term, minlength=len(hashes))
    return b"".join(
        (
            _HEADER.pack(_MAGIC, _VERSION, len(found), len(hashes), len(rows)),
            hashes.astype("<u8").tobytes(),
            counts.astype("<u4").tobytes(),
            rows.astype("<u4").tobytes(),
            lengths.astype("<u4").tobytes(),
            frequencies.clip(max=0xFFFF).astype("<u2").tobytes(),
        )
    )


def is_of_other_version(blob: bytes) -> bool:
    """Whether another `POSTINGS_VERSION` made it: then it says nothing here."""
    return blob.startswith(_MAGIC) and not blob.startswith(_MAGIC + _VERSION)


def read_postings(blob: bytes) -> Postings:
    """Views into ``blob``. `IntegrityError` for anything that `posting_blob` did not make."""
    if len(blob) < _HEADER.size:
        raise _damaged("they break off")
    magic, version, chunks, terms, entries = _HEADER.unpack_from(blob)
    if magic + version != _MAGIC + _VERSION:
        raise _damaged("they do not begin as postings do")
    if len(blob) != _HEADER.size + 12 * terms + 6 * entries + 4 * chunks:
        raise _damaged(f"{len(blob)} bytes for {entries} entries")
    offset = _HEADER.size
    parts = []
    for kind, number in (("<u8", terms), ("<u4", terms), ("<u4", entries), ("<u4", chunks)):
        parts.append(np.frombuffer(blob, kind, number, offset))
        offset += parts[-1].nbytes
    hashes, counts, rows, lengths = parts
    if int(counts.sum()) != entries or (entries and int(rows.max()) >= chunks):
        raise _damaged("entries that belong to no chunk or term")
    return Postings(hashes, counts, rows, np.frombuffer(blob, "<u2", entries, offset), lengths)


def _damaged(why: str) -> IntegrityError:
    return IntegrityError(
        f"the postings of a document are damaged: {why}",
        hint="index your documents again with --rebuild; the damaged file is kept beside",
        param="index",
    )


_NUMBER = re.compile(r"\d[\d.,:]*\d|\d")
_NAME_WORD = re.compile(r"[^\W_]+")
_ALIKE = 5


def number_words(text: str) -> set[str]:
    """Numbers as written, thousands commas aside."""
    return {match.replace(",", "").strip(".:") for match in _NUMBER.findall(text)}


def name_words(text: str) -> list[str]:
    """Words that look like names or codes: with a capital or a digit, the first word aside
    unless it holds a digit. None where everything is capitalised."""
    words = _NAME_WORD.findall(text)
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
    present = set(content_words(text))
    found = 0.0
    for word, weight in words.items():
        pairs = [piece for piece in pieces_of(word).split() if len(piece) > 1]
        if pairs:
            found += weight * sum(pair in text for pair in pairs) / len(pairs)
        else:
            found += weight * _occurs(word, present)
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
