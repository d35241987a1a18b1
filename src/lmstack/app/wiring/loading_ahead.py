"""Models that are loaded beside other work, and waited for when they are used.

Not covered: a model that is loaded only if it is used at all (`lazy_embedder`, `lazy_model`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lmstack.core import ModelInfo, Reranker

__all__ = ["RerankerAhead", "loading"]

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
