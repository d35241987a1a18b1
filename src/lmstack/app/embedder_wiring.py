"""Which embedding model a name means: local, shaped as it says, or remote and remembered.

all-minilm-l6-v2
bge-small-en-v1.5,dimensions=128,tokens=256
openai:text-embedding-3-small,dimensions=512
"""

from __future__ import annotations

import re
from typing import Any

from lmstack.app.output import Output
from lmstack.core import Embedder, InputError

__all__ = [
    "DEFAULT_EMBEDDER",
    "embedder_named",
    "is_remote_embedder",
    "say_where_texts_go",
    "shaped_name",
]

DEFAULT_EMBEDDER = "all-minilm-l6-v2"
_OPTION = re.compile(r",(dimensions|tokens)=(\d{1,7})$", re.ASCII)
_REMOTE = "openai:"


def is_remote_embedder(name: str | None) -> bool:
    return name is not None and name.startswith(_REMOTE)


def say_where_texts_go(out: Output, name: str | None) -> None:
    """Nothing leaves this machine unsaid."""
    if is_remote_embedder(name):
        out.note("texts are sent to openai to be embedded")


def embedder_named(name: str | None) -> Embedder:
    """Loaded when it is first used. Texts that a remote one embedded are remembered under
    $LMSTACK_HOME, as vectors."""
    base, options = _split(name or DEFAULT_EMBEDDER)
    if is_remote_embedder(base):
        from lmstack.rag import BlobCache, CachedEmbedder, RemoteEmbedder
        from lmstack.registry.home import home

        cache = BlobCache(home() / "embeddings.sqlite")
        return CachedEmbedder(RemoteEmbedder(base.removeprefix(_REMOTE), **options), cache)
    from lmstack.app.lazy_embedder import LazyEmbedder
    from lmstack.registry import Store

    folder = Store().resolve(base)
    if folder.kind != "embed":
        raise InputError(
            f"{folder.name} is a language model, not an embedding model",
            hint=f"--embedder {DEFAULT_EMBEDDER}",
            param="embedder",
        )
    return LazyEmbedder(folder, **options)


def shaped_name(name: str, digest: str) -> str:
    """The name of the model ``name`` in the shape that ``digest`` tells of."""
    shapes = (("tokens", r"\+(\d+)tokens\b"), ("dimensions", r"\+(\d+)d\b"))
    found = [(option, re.search(pattern, digest, re.ASCII)) for option, pattern in shapes]
    return name + "".join(f",{option}={match[1]}" for option, match in found if match)


def _split(name: str) -> tuple[str, dict[str, Any]]:
    """A name, and the options that it ends with."""
    options: dict[str, Any] = {}
    while found := _OPTION.search(name):
        key = "max_tokens" if found[1] == "tokens" else "dimensions"
        options[key] = int(found[2])
        name = name[: found.start()]
    return name, options
