"""Binary codes of vectors: one bit a dimension, the sign, to pick candidates for exact scores.

The angle between two vectors shows in how many of their signs differ (Charikar 2002). A code
depends on its vector alone: what else is in the index, hidden documents too, changes nothing.
Codes are kept column by column, 64 dimensions a word, so that counting runs through memory once.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["Codes", "distances", "nearest_codes", "sign_codes"]

Codes = npt.NDArray[np.uint64]
# Rows at a time: what is counted stays in the processor's own caches.
_BLOCK = 32_768


def sign_codes(vectors: npt.NDArray[np.float32]) -> Codes:
    """(W, N) words for (N, D) vectors, W = D / 64 rounded up."""
    words = -(-vectors.shape[1] // 64)
    codes = np.empty((words, len(vectors)), np.uint64)
    for start in range(0, len(vectors), _BLOCK):
        bits = np.packbits(vectors[start : start + _BLOCK] > 0, axis=1)
        whole = np.zeros((len(bits), 8 * words), np.uint8)
        whole[:, : bits.shape[1]] = bits
        codes[:, start : start + _BLOCK] = whole.view(np.uint64).T
    return codes


def distances(codes: Codes, query: Codes) -> npt.NDArray[np.uint16]:
    """In how many signs each of N codes differs from ``query`` (W, 1)."""
    total = np.zeros(codes.shape[1], np.uint16)
    other = np.empty(_BLOCK, np.uint64)
    count = np.empty(_BLOCK, np.uint8)
    for start in range(0, codes.shape[1], _BLOCK):
        block = total[start : start + _BLOCK]
        size = len(block)
        for column, word in zip(codes, query[:, 0], strict=True):
            np.bitwise_xor(column[start : start + size], word, out=other[:size])
            np.bitwise_count(other[:size], out=count[:size])
            block += count[:size]
    return total


def nearest_codes(
    found: npt.NDArray[np.uint16], count: int, allowed: npt.NDArray[np.bool_] | None
) -> npt.NDArray[np.int64]:
    """The rows of the ``count`` smallest `distances` among the ``allowed``, ascending, with all
    that are as far as the last: which rows come out does not depend on their order."""
    seen = found if allowed is None else found[allowed]
    last = np.partition(seen, count - 1)[count - 1] if count < len(seen) else found.max(initial=0)
    close = found <= last
    return np.flatnonzero(close if allowed is None else close & allowed)
