"""Which models play which part in a search of several stages, and what is done where one is not
here. Like `wiring`, imports what it wires when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from lmstack.core import NotFoundError, Reranker, UnsupportedError
from lmstack.serve.lazy import RerankerAhead, loading
from lmstack.train.merged import model_named

if TYPE_CHECKING:
    from lmstack.rag.retrieve.retrieval import RetrievalConfig, Searchable
    from lmstack.rag.retrieve.retriever import Retriever
    from lmstack.registry import ModelFolder

__all__ = [
    "DEFAULT_LATE",
    "DEFAULT_RERANKER",
    "WEIGHTS",
    "answer_reranker",
    "answer_reranker_ahead",
    "feasible",
    "reader_folder",
    "retriever",
]

DEFAULT_RERANKER = "ms-marco-minilm-l12"
DEFAULT_LATE = "colbert-small"
# Native integer products; the order of passages hardly changes.
WEIGHTS = "int8"


def feasible(config: RetrievalConfig, note: Callable[[str], None]) -> RetrievalConfig:
    """``config`` without stages whose model is not in the store, which ``note`` is told: for
    settings that nobody asked for by name."""
    changes = {}
    for setting, name in (("rerank_depth", DEFAULT_RERANKER), ("late_depth", DEFAULT_LATE)):
        if getattr(config, setting) and not is_here(name):
            changes[setting] = 0
            note(f"passages are not reranked, for {name} is not here: lmstack pull {name}")
    return config.replace(**changes)


def retriever(index: Searchable, config: RetrievalConfig) -> Retriever:
    """A retriever with the models that ``config`` needs, loaded."""
    from lmstack.rag.retrieve.retriever import Retriever

    reranker, late = None, None
    if config.rerank_depth:
        reranker = _reranker()
    if config.late_depth:
        from lmstack.registry import Store
        from lmstack.serve.tasks import LocalTokenEmbedder

        late = LocalTokenEmbedder.load(Store().resolve(DEFAULT_LATE), weights=WEIGHTS)
    return Retriever(index, config, reranker=reranker, late=late)


def answer_reranker(note: Callable[[str], None], reader: str | None = None) -> Reranker | None:
    """What chooses passages and sentences and says whether they answer, loaded: ``reader`` (see
    `reader_folder`), or the default one; None where that is not in the store, which ``note`` is
    told."""
    if reader is not None:
        return _reranker(reader)
    return _reranker() if _has_answer_reranker(note) else None


@contextmanager
def answer_reranker_ahead(
    note: Callable[[str], None], reader: str | None = None
) -> Iterator[Reranker | None]:
    """As `answer_reranker`, loaded beside what is done meanwhile."""
    if reader is None and not _has_answer_reranker(note):
        yield None
        return
    with loading(_reranker if reader is None else partial(_reranker, reader)) as future:
        yield RerankerAhead(future)


def _has_answer_reranker(note: Callable[[str], None]) -> bool:
    found = is_here(DEFAULT_RERANKER)
    if not found:
        note(
            f"what is quoted is chosen without a reranker, for {DEFAULT_RERANKER} is not here:"
            f" lmstack pull {DEFAULT_RERANKER}"
        )
    return found


def _reranker(reader: str | None = None) -> Reranker:
    """Without torch, if it was loaded before."""
    from lmstack.registry import Store
    from lmstack.serve.light_models import light_reranker

    store = Store()
    folder = store.resolve(DEFAULT_RERANKER) if reader is None else reader_folder(reader)
    light = light_reranker(folder, WEIGHTS, store)
    if light is not None:
        return light
    from lmstack.serve.images import keep_reranker
    from lmstack.serve.tasks import LocalReranker

    reranker = LocalReranker.load(folder, store, weights=WEIGHTS, cut=True)
    keep_reranker(reranker, folder, WEIGHTS, store)
    return reranker


def is_here(name: str) -> bool:
    from lmstack.registry import Store

    try:
        Store().resolve(name)
    except NotFoundError:
        return False
    return True


def reader_folder(name: str) -> ModelFolder:
    """``name``: a cross-encoder of the store, the folder of one, or of an adapter that `lmstack
    train` made. `UnsupportedError` where it gives no score for a question and a text."""
    from lmstack.registry import Store

    folder = Store().resolve(model_named(name))
    if folder.kind != "rerank":
        raise UnsupportedError(
            f"{folder.name} is a model to {folder.kind}, not a reader",
            hint="lmstack train recipes/reader.yaml",
            param="reader",
        )
    return folder
