"""The shingles of a text, and the few numbers by which texts alike are found: MinHash.

A text is the set of its shingles: five words that follow one another, without case and
punctuation. The similarity of two texts is the Jaccard index of these sets (Broder, 1997). In a
sketch, each of `VALUES` numbers is the least hash of all shingles under one hash function; two
texts share each with a probability that is their similarity. Covers texts with spaces between
words; of others, a shingle is five runs of letters, which still finds copies.
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

import numpy as np
import numpy.typing as npt

__all__ = ["VALUES", "Shingles", "Sketch", "jaccard", "load_sketch", "shingles_of", "sketch_of"]

VALUES = 128
Shingles = npt.NDArray[np.uint64]
Sketch = npt.NDArray[np.uint32]
_WORD = re.compile(r"\w+")
_LENGTH = 5
_BLOCK = 2048
# Part of what is stored: raise it when the same text gives another sketch.
_VERSION = b"\x01"
_RANDOM = np.random.Generator(np.random.PCG64(20261126))
# Multiply-shift hashing (Dietzfelbinger et al., 1997): odd factors, the high bits count.
_FACTORS = _RANDOM.integers(0, 2**64, (VALUES, 1), np.uint64) | np.uint64(1)
_TERMS = _RANDOM.integers(0, 2**64, (VALUES, 1), np.uint64)
_PLACES = _RANDOM.integers(0, 2**64, _LENGTH, np.uint64) | np.uint64(1)


def shingles_of(text: str) -> Shingles:
    """The hashes of the shingles of ``text``, ascending, each once; one for a text of fewer
    words, none for a text without any."""
    words = _WORD.findall(text.lower())
    numbers = {word: _hash(word) for word in set(words)}
    hashes = np.fromiter((numbers[word] for word in words), np.uint64, len(words))
    if len(hashes) < _LENGTH:
        hashes = np.pad(hashes, (0, _LENGTH - len(hashes))) if len(hashes) else hashes
    count = max(len(hashes) - _LENGTH + 1, 0)
    total = np.zeros(count, np.uint64)
    for place, factor in enumerate(_PLACES):
        total += hashes[place : place + count] * factor
    return np.unique(_mixed(total))


def sketch_of(text: str) -> bytes:
    """As it is stored."""
    shingles = shingles_of(text)
    least = np.full(VALUES, 2**32 - 1, np.uint32)
    for start in range(0, len(shingles), _BLOCK):
        hashed = (_FACTORS * shingles[start : start + _BLOCK] + _TERMS) >> np.uint64(32)
        least = np.minimum(least, hashed.min(axis=1).astype(np.uint32))
    return _VERSION + least.astype("<u4").tobytes()


def load_sketch(stored: bytes | None, text: str | None = None) -> Sketch | None:
    """The values of a stored sketch; made of ``text`` if it is of another version or missing,
    None without."""
    if stored is None or stored[:1] != _VERSION:
        if text is None:
            return None
        stored = sketch_of(text)
    return np.frombuffer(stored, "<u4", offset=1)


def jaccard(first: Shingles, second: Shingles) -> float:
    """Of two ascending sets: how much they share of all they have; 0 where nothing is said."""
    if not len(first) or not len(second):
        return 0.0
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


@lru_cache(2**16)
def _hash(word: str) -> int:
    digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


def _mixed(values: Shingles) -> Shingles:
    """Every bit of each number depends on all of its bits (the finalizer of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Shingles = values ^ (values >> np.uint64(31))
    return mixed
