"""An embedder that remembers the vectors of texts it has seen.

Questions about the same documents weigh the same sentences again: those are not computed twice.
Covers memory in this process; what an index stores is `store`'s.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder, ModelInfo, TextKind

__all__ = ["RememberingEmbedder"]

MAX_TEXTS = 20_000


class RememberingEmbedder:
    """``embedder``, whose vectors of the last ``max_texts`` texts are kept (a vector of 384
    numbers takes 1.5 kB). Thread-safe; a text asked for twice at once may be computed twice.
    ``num_asked`` and ``num_computed`` count texts."""

    def __init__(self, embedder: Embedder, max_texts: int = MAX_TEXTS) -> None:
        self._embedder = embedder
        self._max_texts = max_texts
        self._vectors: OrderedDict[tuple[TextKind, str], npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self.num_asked = self.num_computed = 0

    @property
    def info(self) -> ModelInfo:
        return self._embedder.info

    @property
    def dimensions(self) -> int:
        return self._embedder.dimensions

    @property
    def max_tokens(self) -> int:
        return self._embedder.max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self._embedder.count_tokens(texts)

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        found: dict[str, npt.NDArray[np.float32]] = {}
        with self._lock:
            for text in texts:
                vector = self._vectors.get((kind, text))
                if vector is not None:
                    self._vectors.move_to_end((kind, text))
                    found[text] = vector
        new = list(dict.fromkeys(text for text in texts if text not in found))
        if new:
            computed = np.asarray(self._embedder.embed(new, kind), np.float32)
            found |= dict(zip(new, computed, strict=True))
        with self._lock:
            self.num_asked += len(texts)
            self.num_computed += len(new)
            for text in new:
                # A copy: a row would keep its whole batch alive.
                self._vectors[kind, text] = found[text].copy()
            while len(self._vectors) > self._max_texts:
                self._vectors.popitem(last=False)
        rows = [found[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), np.float32)
