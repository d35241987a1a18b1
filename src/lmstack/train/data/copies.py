"""Rows that say the same as an earlier one, wholly or nearly.

Two documents are exact copies where nothing but case, forms of letters and white space differ, near
copies where the Jaccard index of their shingles reaches a threshold; a shingle is five words that
follow one another, without case and punctuation (Broder, 1997). Candidates are those whose MinHash
signatures share a band (locality-sensitive hashing; Leskovec, Rajaraman and Ullman, chapter 3):
with 128 values in 32 bands of 4, two documents at .8 meet with a probability of .9999999. Each is
then compared with the others by its shingles, so what is called a copy is one.

Shingles and bands are kept in files, so memory holds 24 bytes a row. The sets are those of
`lmstack.rag.catalogue.duplicates`, on purpose apart: neither half imports the other, an index is
small enough for memory, and it asks which documents are alike, not which comes first.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Copies", "CopyFinder", "hash_of", "place_of", "runs_of", "shingles_of", "word_hashes"]

Shingles = npt.NDArray[np.uint64]
_WORD = re.compile(r"\w+")
_WORDS, _MOST_WORDS = 5, 32
_BANDS, _ROWS = 32, 4
_BLOCK = 2048
_RANDOM = np.random.Generator(np.random.PCG64(20261126))
# Multiply-shift hashing (Dietzfelbinger et al., 1997): odd factors, the high bits count.
_FACTORS = _RANDOM.integers(0, 2**64, (_BANDS * _ROWS, 1), np.uint64) | np.uint64(1)
_TERMS = _RANDOM.integers(0, 2**64, (_BANDS * _ROWS, 1), np.uint64)
_PLACES = _RANDOM.integers(0, 2**64, _MOST_WORDS, np.uint64) | np.uint64(1)
# In a crowd that shares a band (a template filled in a thousand times) each is compared with so
# many others, not with all.
_LEADERS = 50


@dataclass(frozen=True)
class Copies:
    """``first``: for each row the first of its group, itself where it has no copy before it.
    ``exact``: whether it is an exact copy of an earlier one. ``hashes``: of the normalized text."""

    first: npt.NDArray[np.int64]
    exact: npt.NDArray[np.bool_]
    hashes: npt.NDArray[np.uint64]

    @property
    def grouped(self) -> frozenset[int]:
        """The firsts of groups of more than one."""
        return frozenset(self.first[self.first != np.arange(len(self.first))].tolist())


class CopyFinder:
    """`add` each document in order, then ask for `copies`. ``folder``: for its files, which may go
    afterwards. ``threshold``: the Jaccard index from which two are near copies."""

    def __init__(self, folder: Path, threshold: float = 0.8) -> None:
        self._folder, self._threshold = folder, threshold
        self._hashes, self._ends = array("Q"), array("q")
        folder.mkdir(exist_ok=True)
        self._shingles = (folder / "shingles.bin").open("wb")
        self._bands = (folder / "bands.bin").open("wb")

    def add(self, text: str) -> None:
        shingles = shingles_of(text)
        self._hashes.append(hash_of(text))
        self._ends.append((self._ends[-1] if self._ends else 0) + len(shingles))
        self._shingles.write(shingles.tobytes())
        self._bands.write(_bands(shingles).tobytes())

    def copies(self) -> Copies:
        self._shingles.close()
        self._bands.close()
        hashes = np.array(self._hashes)
        _, earliest, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        first = earliest[inverse].astype(np.int64)
        exact = first != np.arange(len(first))
        shingles = _mapped(self._folder / "shingles.bin")
        bands = _mapped(self._folder / "bands.bin").reshape(-1, _BANDS)
        for band in range(_BANDS):
            for crowd in _crowds(bands[:, band], np.flatnonzero(~exact)):
                self._join(crowd, first, shingles)
        for row in range(len(first)):
            first[row] = first[first[row]]  # which comes earlier, and is done
        return Copies(first, exact, hashes)

    def _join(self, crowd: npt.NDArray[np.int64], first: npt.NDArray[np.int64], all_: Any) -> None:
        """Put together those of ``crowd``, in ascending order, that are alike."""
        leaders: list[int] = []
        for row in crowd.tolist():
            for leader in leaders:
                one, other = _root(first, leader), _root(first, row)
                if one == other or self._are_alike(leader, row, all_):
                    first[max(one, other)] = min(one, other)
                    break
            else:
                if len(leaders) < _LEADERS:
                    leaders.append(row)

    def _are_alike(self, one: int, other: int, all_: Any) -> bool:
        first, second = (all_[self._ends[n - 1] if n else 0 : self._ends[n]] for n in (one, other))
        fewer, more = sorted((len(first), len(second)))
        if not fewer or fewer < self._threshold * more:  # they cannot share so many
            return False
        shared = len(np.intersect1d(first, second, assume_unique=True))
        return bool(shared >= self._threshold * (fewer + more - shared))


def shingles_of(text: str) -> Shingles:
    """The hashes of the shingles of ``text``, ascending, each once; one for a text of fewer words,
    none for a text without any."""
    hashes = word_hashes(text)
    if 0 < len(hashes) < _WORDS:
        hashes = np.pad(hashes, (0, _WORDS - len(hashes)))
    return runs_of(hashes, _WORDS)


def word_hashes(text: str) -> Shingles:
    """A number for each word of ``text``, without case and punctuation."""
    words = _WORD.findall(text.lower())
    numbers = {word: _hash_of_word(word) for word in set(words)}
    return np.fromiter((numbers[word] for word in words), np.uint64, len(words))


def runs_of(words: Shingles, size: int) -> Shingles:
    """The hashes of every ``size`` of ``words``, at most 32, that follow one another, ascending,
    each once."""
    count = max(len(words) - size + 1, 0)
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(_PLACES[:size]):
        total += words[place : place + count] * factor
    return np.unique(_mixed(total))


def _bands(shingles: Shingles) -> Shingles:
    """A number for each band of the MinHash signature; 0 for a text without words."""
    if not len(shingles):
        return np.zeros(_BANDS, np.uint64)
    least = np.full(_BANDS * _ROWS, 2**32 - 1, np.uint64)
    for start in range(0, len(shingles), _BLOCK):
        hashed = (_FACTORS * shingles[start : start + _BLOCK] + _TERMS) >> np.uint64(32)
        least = np.minimum(least, hashed.min(axis=1))
    rows = least.reshape(_BANDS, _ROWS)
    return _mixed((rows * _PLACES[:_ROWS]).sum(axis=1, dtype=np.uint64)) | np.uint64(1)


def _crowds(
    band: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]
) -> Iterator[npt.NDArray[np.int64]]:
    """Those of ``rows``, ascending, that have the same number in ``band``, two or more."""
    values = np.asarray(band[rows])
    order = np.argsort(values, kind="stable")
    cuts = np.flatnonzero(np.diff(values[order])) + 1
    bounds = [0, *cuts.tolist(), len(order)]
    for place in np.flatnonzero(np.diff(bounds) > 1).tolist():
        crowd = rows[order[bounds[place] : bounds[place + 1]]]
        if band[crowd[0]]:
            yield crowd


def _root(first: npt.NDArray[np.int64], row: int) -> int:
    while first[row] != row:
        row = int(first[row])
    return row


def hash_of(text: str) -> int:
    """The same of texts that are exact copies."""
    return _hash(_normalized(text))


def place_of(text: str) -> float:
    """Where ``text`` falls in [0, 1), evenly spread, the same in every version."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _normalized(text: str) -> str:
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


_hash_of_word = lru_cache(2**16)(_hash)


def _mixed(values: Shingles) -> Shingles:
    """Every bit of each number depends on all of its bits (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Shingles = values ^ (values >> np.uint64(31))
    return mixed


def _mapped(path: Path) -> Shingles:
    if not path.stat().st_size:  # which cannot be mapped
        return np.zeros(0, np.uint64)
    return np.memmap(path, np.uint64, "r").view(np.ndarray)
