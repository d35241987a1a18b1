"""Embed one batch of texts in a thread of its own, while its owner does something else.

Covers when it is done and how it is stopped; the vectors are the embedder's.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from lmstack.core import Embedder
from lmstack.rag.catalogue.rows import Vectors

__all__ = ["Embedding"]

# How many texts the embedder is given at once: an update that is stopped waits for so many.
_SLICE = 128


class Embedding:
    """One batch at a time. Leaving stops what is at work after the slice it is in."""

    def __init__(self, embedder: Embedder) -> None:
        self.embedded = 0
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(1, "lmstack-embedding")
        self._stopped = threading.Event()
        self._batch: Future[dict[bytes, Vectors]] | None = None
        self._steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()

    def __enter__(self) -> Embedding:
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.shutdown(cancel_futures=True)

    def start(self, texts: Mapping[bytes, str]) -> None:
        """Embed ``texts`` (passages), by key."""
        assert self._batch is None, "one batch at a time"
        self.embedded = 0
        steps = self._steps = queue.SimpleQueue()
        self._batch = self._thread.submit(self._embed, texts, steps)
        self._batch.add_done_callback(lambda _: steps.put(None))

    def result(self, timeout_s: float) -> dict[bytes, Vectors] | None:
        """The vectors of the batch by key. None after ``timeout_s`` and once for each step on the
        way: ``embedded`` says how many there were then. Raises what the embedder raised."""
        assert self._batch is not None, "no batch was started"
        try:
            step = self._steps.get(timeout=timeout_s)
        except queue.Empty:
            return None
        if step is not None:
            self.embedded = step
            return None
        batch, self._batch = self._batch, None
        return batch.result()

    def _embed(
        self, texts: Mapping[bytes, str], steps: queue.SimpleQueue[int | None]
    ) -> dict[bytes, Vectors]:
        table: dict[bytes, Vectors] = {}
        for keys in _slices(list(texts), _SLICE):
            if self._stopped.is_set():
                break
            matrix = self._embedder.embed([texts[key] for key in keys], "passage")
            table.update(zip(keys, np.asarray(matrix, np.float32), strict=True))
            if len(table) < len(texts):
                steps.put(len(table))
        return table


def _slices(items: Sequence[bytes], size: int) -> Iterator[Sequence[bytes]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
