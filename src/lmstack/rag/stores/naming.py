"""The address of the part of a store that one space of an index fills.

Another embedder makes other vectors, often of other dimensions, so each space has a collection,
table or folder of its own: the new one fills beside the old, and nothing is searched half made.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["absolute_address", "address_of_space"]

_IN_FOLDERS = ("sqlite", "faiss", "chroma", "qdrant")


def absolute_address(url: str) -> str:
    """``url`` with its folder as it is found from anywhere."""
    scheme, _, rest = url.partition(":")
    if scheme not in _IN_FOLDERS or not rest or rest.startswith("//"):
        return url
    place, hash_sign, name = rest.partition("#")
    return f"{scheme}:{os.path.abspath(place)}{hash_sign}{name}"


def address_of_space(url: str, space: int) -> str:
    """Where the vectors of the space with this number are kept."""
    scheme, _, rest = url.partition(":")
    if url == "memory:":
        return url
    if scheme == "sqlite":
        path = Path(rest)
        return f"sqlite:{path.with_name(f'{path.stem}-{space}{path.suffix}')}"
    if scheme == "faiss":
        return f"{url.rstrip('/')}/{space}"
    if scheme.startswith(("chroma+", "weaviate+")):
        end = f"_{space}" if scheme.startswith("weaviate") else f"-{space}"
        default = "Lmstack" if scheme.startswith("weaviate") else "lmstack"
        base = url.rstrip("/")
        named = "/" in base.partition("://")[2]
        return f"{base}{end}" if named else f"{base}/{default}{end}"
    place, _, name = url.partition("#")
    if scheme in ("postgresql", "postgres"):
        return f"{place}#{name or 'lmstack_vectors'}_{space}"
    return f"{place}#{name or 'lmstack'}-{space}"
