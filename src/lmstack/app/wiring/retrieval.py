"""Which models play which part in a search, and what is done where one is not here. Like `wiring`,
imports what it wires when it is called. An embedding model is local, shaped as its name says, or
remote and remembered:

    all-minilm-l6-v2
    all-minilm-l6-v2,weights=float32
    bge-small-en-v1.5,dimensions=128,tokens=256
    openai:text-embedding-3-small,dimensions=512
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import (
    Embedder,
    InputError,
    ModelInfo,
    NotFoundError,
    Reranker,
    UnsupportedError,
    shown,
)
from lmstack.model.quant.recipes import FORMS
from lmstack.serve.lazy import RerankerAhead, loading
from lmstack.train.merged import model_named

if TYPE_CHECKING:
    from lmstack.rag.retrieve.retrieval import RetrievalConfig, Searchable
    from lmstack.rag.retrieve.retriever import Retriever
    from lmstack.registry import ModelFolder

__all__ = [
    "DEFAULT_EMBEDDER",
    "DEFAULT_LATE",
    "DEFAULT_RERANKER",
    "MULTILINGUAL",
    "WEIGHTS",
    "answer_reranker",
    "answer_reranker_ahead",
    "embedder_for",
    "embedder_named",
    "feasible",
    "is_remote_embedder",
    "name_for_index",
    "reader_folder",
    "retriever",
    "shaped_name",
]

DEFAULT_EMBEDDER = "all-minilm-l6-v2"
# For documents that the default does not read.
MULTILINGUAL = "multilingual-e5-small"
FLOATS = "float32"
_OPTION = re.compile(r",(?:(dimensions|tokens)=(\d{1,7})|(weights)=(\w{1,20}))$", re.ASCII)
_REMOTE = "openai:"
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
    return _folder(name) is not None


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


def is_remote_embedder(name: str | None) -> bool:
    return name is not None and name.startswith(_REMOTE)


def embedder_named(name: str | None) -> Embedder:
    """Loaded when it is first used. Texts that a remote one embedded are remembered under
    $LMSTACK_HOME, as vectors."""
    base, options = _split(name or DEFAULT_EMBEDDER)
    if is_remote_embedder(base):
        return _remote(base, options)
    from lmstack.registry import Store
    from lmstack.serve.lazy import LazyEmbedder

    folder = Store().resolve(model_named(base))
    if folder.kind != "embed":
        raise InputError(
            f"{folder.name} is a language model, not an embedding model",
            hint=f"--embedder {DEFAULT_EMBEDDER}",
            param="embedder",
        )
    return LazyEmbedder(folder, **options)


def embedder_for(sources: Sequence[Path], note: Callable[[str], None]) -> str:
    """The embedder of a new index of ``sources`` for which nobody named one: the default, unless
    most documents are in languages that it does not read. ``note`` is told why it is another, or
    how to get that."""
    from lmstack.rag.ingest.reading import sampled_languages
    from lmstack.rag.retrieve.stages import reads_most

    info = ModelInfo(DEFAULT_EMBEDDER, languages=("en",))
    found = sampled_languages(sources)
    if reads_most(info, found.elements()):
        return DEFAULT_EMBEDDER
    [(most, _)] = found.most_common(1)
    if _folder(MULTILINGUAL) is not None:
        note(f"most documents are not in English (but in {most}): using {MULTILINGUAL}")
        return MULTILINGUAL
    note(
        f"most documents are not in English (but in {most}), which {DEFAULT_EMBEDDER} reads badly:"
        f" lmstack pull {MULTILINGUAL}; then lmstack index update --embedder {MULTILINGUAL} changes"
        " to it"
    )
    return DEFAULT_EMBEDDER


def _remote(name: str, options: dict[str, Any]) -> Embedder:
    if "weights" in options:
        raise InputError(
            f"weights={options['weights']} is for a model on this machine, and {name} is not",
            hint="leave it out",
            param="embedder",
        )
    from lmstack.rag import BlobCache, CachedEmbedder, RemoteEmbedder
    from lmstack.registry.home import home

    cache = BlobCache(home() / "embeddings.sqlite")
    return CachedEmbedder(RemoteEmbedder(name.removeprefix(_REMOTE), **options), cache)


def shaped_name(name: str, digest: str) -> str:
    """The name of the model ``name`` with the weights and in the shape that ``digest`` tells."""
    shapes = (("tokens", r"\+(\d+)tokens\b"), ("dimensions", r"\+(\d+)d\b"))
    found = [(option, re.search(pattern, digest, re.ASCII)) for option, pattern in shapes]
    shaped = name + "".join(f",{option}={match[1]}" for option, match in found if match)
    return _with_weights(shaped, digest)


def name_for_index(given: str, digest: str) -> str:
    """What ``given`` means for an index made with the model that ``digest`` names: with the same
    weights, if it is the same model and ``given`` does not say which."""
    base, options = _split(given)
    if is_remote_embedder(base) or "weights" in options:
        return given
    folder = _folder(base)
    same = folder is not None and folder.digest == digest.partition("+")[0]
    return _with_weights(given, digest) if same else given


def _with_weights(name: str, digest: str) -> str:
    """``name``, and the weights of ``digest`` unless they are what ``name`` alone means."""
    form = next((part for part in digest.split("+") if part in FORMS), None)
    if form is not None:
        return f"{name},weights={form}"
    return f"{name},weights={FLOATS}" if _embeds_in(_split(name)[0]) else name


def _embeds_in(name: str) -> str | None:
    """The form that the model ``name`` is used in by default; None: as its files have it."""
    from lmstack.registry.weight_cache import embedding_form

    folder = _folder(name)
    return None if folder is None else embedding_form(folder)


def _folder(name: str) -> ModelFolder | None:
    """None for a model that is not here: whoever loads it says so."""
    from lmstack.registry import Store

    try:
        return Store().resolve(model_named(name))
    except NotFoundError:
        return None


def _split(name: str) -> tuple[str, dict[str, Any]]:
    """A name, and the options that it ends with."""
    options: dict[str, Any] = {}
    while found := _OPTION.search(name):
        if found[3]:
            options["weights"] = _weights(found[4])
        else:
            options["max_tokens" if found[1] == "tokens" else "dimensions"] = int(found[2])
        name = name[: found.start()]
    return name, options


def _weights(form: str) -> str:
    known = FORMS
    if form not in known:
        raise InputError(
            f"the weights of an embedder are to be {shown(form)}",
            hint=f"NAME,weights=FORM, with one of: {', '.join(known)}",
            param="embedder",
        )
    return form
