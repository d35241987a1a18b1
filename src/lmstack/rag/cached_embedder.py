"""An embedder that remembers: each text is embedded once per model and kind, across runs.

Keys are hashes of the model's identity (its digest, or name and size), the kind and the text; no
text is written down. A vector that does not fit is made again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder, ModelInfo, TextKind
from lmstack.rag.blob_cache import BlobCache

__all__ = ["CachedEmbedder"]


class CachedEmbedder:
    """`Embedder` over ``embedder`` and a cache that several embedders may share. Thread-safe.
    ``num_embedded`` counts texts that had to be embedded."""

    def __init__(self, embedder: Embedder, cache: BlobCache) -> None:
        self._embedder, self._cache = embedder, cache
        self.num_embedded = 0

    @property
    def info(self) -> ModelInfo:
        return self._embedder.info

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    @property
    def counts_by_word(self) -> bool:
        return bool(getattr(self._embedder, "counts_by_word", False))

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        if isinstance(texts, str):
            return self._embedder.embed(texts, kind)  # refuses it in its own words
        keys = [self._key(text, kind) for text in texts]
        wanted = dict(zip(keys, texts, strict=True))
        size = 4 * self.dimensions
        kept = {
            key: np.frombuffer(data, "<f4")
            for key, data in self._cache.get(list(wanted)).items()
            if len(data) == size
        }
        missing = [key for key in wanted if key not in kept or not _is_unit(kept[key])]
        if missing:
            fresh = self._embedder.embed([wanted[key] for key in missing], kind)
            self.num_embedded += len(missing)
            made = dict(zip(missing, np.ascontiguousarray(fresh, "<f4"), strict=True))
            self._cache.put({key: vector.tobytes() for key, vector in made.items()})
            kept |= made
        rows = np.zeros((len(keys), self.dimensions), np.float32)
        for number, key in enumerate(keys):
            rows[number] = kept[key]
        return rows

    def _key(self, text: str, kind: TextKind) -> bytes:
        info = self._embedder.info
        name = info.digest or f"name:{info.name}:{self.dimensions}"
        hasher = hashlib.blake2b(digest_size=20)
        for part in (name, kind, text):
            data = part.encode("utf-8", "surrogatepass")
            hasher.update(len(data).to_bytes(8) + data)
        return hasher.digest()


def _is_unit(vector: npt.NDArray[np.float32]) -> bool:
    """Unit length, or zero, which a text without tokens has."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return abs(length - 1) < 1e-3 or length == 0
