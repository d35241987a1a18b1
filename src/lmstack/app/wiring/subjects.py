"""A model opened, as it is served, as what is evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lmstack.app import wiring
from lmstack.core import ChatModel
from lmstack.evals.task import Subject

__all__ = ["opened", "subject"]


@contextmanager
def subject(
    model: str | None, weights: str | None = None, adapter: str | None = None
) -> Iterator[Subject]:
    """The model, with its adapter, opened as it is served, as what is evaluated."""
    from lmstack.serve import LocalModel

    with opened(model, weights, adapter) as chat:
        info = chat.info
        digest = info.digest or f"name:{info.name}"
        likelihood = chat if isinstance(chat, LocalModel) else None
        yield Subject(info.name, digest, chat, likelihood)


@contextmanager
def opened(
    model: str | None, weights: str | None = None, adapter: str | None = None
) -> Iterator[ChatModel]:
    """A language model until the block ends."""
    if adapter is None:
        found = wiring.generator(model, weights)
    else:
        found = wiring.generator(model, weights, adapter=adapter)
    try:
        yield found
    finally:
        close = getattr(found, "close", None)
        if close is not None:
            close()
