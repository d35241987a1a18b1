"""Models that are loaded when they are first used, or beside other work.

An index checks which model made it before anything is embedded, an update without changes embeds
nothing, and most answers are quoted without asking the language model; none of these should wait
for torch. Name and digest come from the model's card.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from lmstack.core import ChatModel, Delta, Embedder, ModelInfo, Request, Reranker, TextKind
from lmstack.registry.sources.known import traits_of
from lmstack.registry.weight_cache import embedding_form, served_digest, stored_form

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = ["LazyEmbedder", "LazyModel", "RerankerAhead", "loading"]


class LazyEmbedder:
    """`Embedder` over a model folder, with ``weights``, ``max_tokens`` and ``dimensions`` as for
    `LocalEmbedder.load`. Thread-safe; loads once."""

    def __init__(
        self,
        folder: ModelFolder,
        weights: str | None = None,
        *,
        max_tokens: int | None = None,
        dimensions: int | None = None,
    ) -> None:
        self._folder, self._weights = folder, weights or embedding_form(folder)
        self._max_tokens, self._dimensions = max_tokens, dimensions
        self._loaded: Embedder | None = None
        self._loading = threading.Lock()
        digest = folder.digest
        if self._weights is not None:
            digest = served_digest(folder, self._weights, stored_form(folder))
        self.info = traits_of(folder).info(folder.name, digest)
        if max_tokens is not None or dimensions is not None:
            # Whether that is all that the model has, only the model says.
            self.info = self.load().info

    def load(self) -> Embedder:
        """The embedder itself; also called ahead of time, to be ready when it is needed."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._light() or self._local()
            return self._loaded

    def _light(self) -> Embedder | None:
        """Without torch, if it was loaded in this form before."""
        from lmstack.serve.light_models import light_embedder

        return light_embedder(
            self._folder,
            self._weights,
            max_tokens=self._max_tokens,
            dimensions=self._dimensions,
        )

    def _local(self) -> Embedder:
        from lmstack.registry import Store
        from lmstack.serve.embedder import LocalEmbedder
        from lmstack.serve.images import keep_embedder

        store = Store()
        embedder = LocalEmbedder.load(
            self._folder,
            store,
            weights=self._weights,
            max_tokens=self._max_tokens,
            dimensions=self._dimensions,
        )
        if self._weights is not None:
            keep_embedder(embedder, self._folder, self._weights, store)
        return embedder

    @property
    def dimensions(self) -> int:
        return self.load().dimensions

    @property
    def max_tokens(self) -> int:
        return self.load().max_tokens

    @property
    def counts_by_word(self) -> bool:
        return bool(getattr(self.load(), "counts_by_word", False))

    def embed(self, texts: Sequence[str], kind: TextKind = "passage") -> npt.NDArray[np.float32]:
        return self.load().embed(texts, kind)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        return self.load().count_tokens(texts)


class LazyModel:
    """`ChatModel` over what ``load`` gives. Thread-safe; loads once. ``info`` is that of the model
    but for the length of its context, which only the model says."""

    def __init__(self, info: ModelInfo, load: Callable[[], ChatModel]) -> None:
        self.info = info
        self._load = load
        self._loaded: ChatModel | None = None
        self._loading = threading.Lock()

    def load(self) -> ChatModel:
        """The model itself."""
        with self._loading:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        return self.load().stream(request)

    def close(self) -> None:
        """Free the model, if it was ever loaded."""
        closer = getattr(self._loaded, "close", None)
        if closer is not None:
            closer()


T = TypeVar("T")


@contextmanager
def loading(load: Callable[[], T]) -> Iterator[Future[T]]:
    """The future result of ``load``, which runs in a thread. Leaving waits for it: a process that
    ends while a thread is inside a native library may abort."""
    with ThreadPoolExecutor(1, thread_name_prefix="lmstack-loading") as pool:
        yield pool.submit(load)


class RerankerAhead:
    """`Reranker` that may still be loading."""

    def __init__(self, future: Future[Reranker]) -> None:
        self._future = future

    @property
    def info(self) -> ModelInfo:
        return self._future.result().info

    def score(self, query: str, passages: Sequence[str]) -> npt.NDArray[np.float32]:
        return self._future.result().score(query, passages)
