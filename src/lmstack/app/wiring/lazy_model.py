"""A language model that is loaded when it is first asked.

Most answers are quoted without asking it, and should not wait until it is loaded. Name and digest
come from the model's card.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable

from lmstack.core import ChatModel, Delta, ModelInfo, Request

__all__ = ["LazyModel"]


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
