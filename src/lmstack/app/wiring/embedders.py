"""Which embedding model a name means: local, shaped as it says, or remote and remembered.

all-minilm-l6-v2
all-minilm-l6-v2,weights=float32
bge-small-en-v1.5,dimensions=128,tokens=256
openai:text-embedding-3-small,dimensions=512
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmstack.core import Embedder, InputError, ModelInfo, NotFoundError, shown
from lmstack.model.quant.recipes import FORMS
from lmstack.train.merged import model_named

if TYPE_CHECKING:
    from lmstack.registry import ModelFolder

__all__ = [
    "DEFAULT_EMBEDDER",
    "MULTILINGUAL",
    "embedder_for",
    "embedder_named",
    "is_remote_embedder",
    "name_for_index",
    "shaped_name",
]

DEFAULT_EMBEDDER = "all-minilm-l6-v2"
# For documents that the default does not read.
MULTILINGUAL = "multilingual-e5-small"
FLOATS = "float32"
_OPTION = re.compile(r",(?:(dimensions|tokens)=(\d{1,7})|(weights)=(\w{1,20}))$", re.ASCII)
_REMOTE = "openai:"


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
