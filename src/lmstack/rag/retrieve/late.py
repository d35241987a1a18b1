"""Late interaction over candidates: query and passage as a vector a token, compared afterwards.

    score = mean over tokens q of the query of max over tokens d of the passage of cos(q, d)

ColBERT (Khattab and Zaharia 2020, arXiv:2004.12832). Passages are encoded when they are first met
and remembered in int8, a byte a number, because a passage has a hundred vectors where an index has
one. Does not cover token vectors in the index.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lmstack.core import ModelInfo, TextKind

__all__ = ["LateInteraction", "TokenEmbedder"]

Floats = npt.NDArray[np.float32]
_SCALE = 127.0


@runtime_checkable
class TokenEmbedder(Protocol):
    """Text to a unit vector a token. Thread-safe."""

    @property
    def info(self) -> ModelInfo: ...

    def embed_tokens(self, texts: Sequence[str], kind: TextKind = "passage") -> list[Floats]:
        """Of each text (tokens, dimensions); what is too long is cut."""
        ...


class LateInteraction:
    """A `TokenEmbedder` as core's `Reranker`. ``cache_bytes``: for passages that may be asked
    about again; the longest unused are forgotten first. Thread-safe."""

    def __init__(self, embedder: TokenEmbedder, cache_bytes: int = 256_000_000) -> None:
        self._embedder = embedder
        self._limit = cache_bytes
        self._used = 0
        self._cache: OrderedDict[bytes, npt.NDArray[np.int8]] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def info(self) -> ModelInfo:
        return self._embedder.info

    def score(self, query: str, passages: Sequence[str]) -> Floats:
        [asked] = self._embedder.embed_tokens([query], "query")
        return np.array([_mean_max(asked, p) for p in self._encoded(passages)], np.float32)

    def _encoded(self, passages: Sequence[str]) -> list[npt.NDArray[np.int8]]:
        keys = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in passages]
        with self._lock:
            found = {key: self._cache[key] for key in keys if key in self._cache}
            for key in found:
                self._cache.move_to_end(key)
        missing = {key: text for key, text in zip(keys, passages, strict=True) if key not in found}
        if missing:
            vectors = self._embedder.embed_tokens(list(missing.values()), "passage")
            made = {
                key: np.rint(each * _SCALE).astype(np.int8)
                for key, each in zip(missing, vectors, strict=True)
            }
            self._remember(made)
            found |= made
        return [found[key] for key in keys]

    def _remember(self, made: dict[bytes, npt.NDArray[np.int8]]) -> None:
        with self._lock:
            for key, vectors in made.items():
                if key not in self._cache:
                    self._cache[key] = vectors
                    self._used += vectors.nbytes
            while self._used > self._limit:
                _, oldest = self._cache.popitem(last=False)
                self._used -= oldest.nbytes


def _mean_max(query: Floats, passage: npt.NDArray[np.int8]) -> float:
    """0 for a passage or a query of no tokens."""
    if not len(query) or not len(passage):
        return 0.0
    similarities = query @ passage.T.astype(np.float32)
    return float(similarities.max(axis=1).mean()) / _SCALE
