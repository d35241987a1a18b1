"""An embedder that remembers the vectors of texts it has seen, and looks ahead where it may.

Questions about the same documents weigh the same sentences again: those are not computed twice,
and what a further question is likely to need is computed while nobody asks. Covers memory in this
process; what an index stores is `catalogue.rows`'.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from lmstack.core import Embedder, ModelInfo, TextKind

__all__ = ["RememberingEmbedder"]

log = logging.getLogger(__name__)

MAX_TEXTS = 20_000
# Few enough that a question waits for no more than some milliseconds of what was begun.
AHEAD = 4
MAX_AHEAD = 16
# Whoever reads an answer does not ask again at once; other work of the same question goes first.
QUIET_S = 0.2
NICE = 10


class RememberingEmbedder:
    """``embedder``, whose vectors of the last ``max_texts`` texts are kept (a vector of 384
    numbers takes 1.5 kB). Thread-safe; a text asked for twice at once may be computed twice.
    ``num_asked`` and ``num_computed`` count texts."""

    def __init__(self, embedder: Embedder, max_texts: int = MAX_TEXTS) -> None:
        self._embedder = embedder
        self._max_texts = max_texts
        self._vectors: OrderedDict[tuple[TextKind, str], npt.NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()
        self._asking, self._asked_at = 0, 0.0
        self._ahead: deque[Callable[[], Sequence[str]]] = deque(maxlen=MAX_AHEAD)
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
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
        with self._lock:
            self._asking += 1
            self.num_asked += len(texts)
        try:
            return self._embed(texts, kind)
        finally:
            with self._lock:
                self._asking -= 1
                self._asked_at = time.monotonic()

    def look_ahead(self, texts: Callable[[], Sequence[str]]) -> None:
        """Embed those passages of ``texts()`` that are new as soon as nobody asks; that, too, is
        called then. In a thread with little priority; the oldest of too many are forgotten."""
        with self._lock:
            self._ahead.append(texts)
            if self._thread is None and not self._closed.is_set():
                self._thread = threading.Thread(target=self._keep_looking, daemon=True)
                self._thread.start()

    def wait(self, timeout: float | None = None) -> bool:
        """Until nothing is left to look ahead for; whether that came within ``timeout`` s."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def close(self) -> None:
        """Look ahead no further."""
        self._closed.set()
        self.wait()

    def _keep_looking(self) -> None:
        if sys.platform == "linux":  # elsewhere a priority is of the whole process
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        texts: list[str] = []
        while not self._closed.is_set():
            with self._lock:
                if not texts and not self._ahead:
                    self._thread = None
                    return
                quiet = not self._asking and time.monotonic() - self._asked_at >= QUIET_S
                make = self._ahead.popleft() if quiet and not texts else None
            if not quiet:
                self._closed.wait(QUIET_S / 4)
                continue
            try:
                if make is not None:
                    texts = list(dict.fromkeys(make()))
                self._embed(texts[:AHEAD], "passage")
            except Exception:  # whoever asks for these texts is told
                log.debug("looking ahead failed", exc_info=True)
            texts = texts[AHEAD:]

    def _embed(self, texts: Sequence[str], kind: TextKind) -> npt.NDArray[np.float32]:
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
            self.num_computed += len(new)
            for text in new:
                # A copy: a row would keep its whole batch alive.
                self._vectors[kind, text] = found[text].copy()
            while len(self._vectors) > self._max_texts:
                self._vectors.popitem(last=False)
        rows = [found[text] for text in texts]
        return np.stack(rows) if rows else np.zeros((0, self.dimensions), np.float32)
