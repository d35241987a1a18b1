"""Which models play which part in a search of several stages, and what is done where one is not
here. Like `wiring`, imports what it wires when it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.app.output import Output
from lmstack.core import NotFoundError

if TYPE_CHECKING:
    from lmstack.rag.search.retrieval import RetrievalConfig, Searchable
    from lmstack.rag.search.retriever import Retriever

__all__ = ["DEFAULT_LATE", "DEFAULT_RERANKER", "feasible", "retriever"]

DEFAULT_RERANKER = "ms-marco-minilm-l12"
DEFAULT_LATE = "colbert-small"
# Native integer products; the order of passages hardly changes.
WEIGHTS = "int8"


def feasible(out: Output, config: RetrievalConfig) -> RetrievalConfig:
    """``config`` without stages whose model is not in the store, which is said: for settings that
    nobody asked for by name."""
    changes = {}
    for setting, name in (("rerank_depth", DEFAULT_RERANKER), ("late_depth", DEFAULT_LATE)):
        if getattr(config, setting) and not _is_here(name):
            changes[setting] = 0
            out.note(f"passages are not reranked, for {name} is not here: lmstack pull {name}")
    return config.replace(**changes)


def retriever(index: Searchable, config: RetrievalConfig) -> Retriever:
    """A retriever with the models that ``config`` needs, loaded."""
    from lmstack.rag.search.retriever import Retriever
    from lmstack.registry import Store
    from lmstack.serve.tasks import LocalReranker, LocalTokenEmbedder

    resolve = Store().resolve
    reranker, late = None, None
    if config.rerank_depth:
        reranker = LocalReranker.load(resolve(DEFAULT_RERANKER), weights=WEIGHTS, cut=True)
    if config.late_depth:
        late = LocalTokenEmbedder.load(resolve(DEFAULT_LATE), weights=WEIGHTS)
    return Retriever(index, config, reranker=reranker, late=late)


def _is_here(name: str) -> bool:
    from lmstack.registry import Store

    try:
        Store().resolve(name)
    except NotFoundError:
        return False
    return True
