"""The address of a store, as people write it and as the index keeps it.

memory:                                  for tests
sqlite:FILE                              one file, exact scan
faiss:FOLDER                             extra: faiss
chroma:FOLDER[#NAME]                     extra: chroma
chroma+http://HOST:PORT[/NAME]           key, if any, in $LMSTACK_CHROMA_KEY
qdrant:FOLDER[#NAME]                     extra: qdrant
postgresql://[USER@]HOST/DATABASE#TABLE  extra: postgres
weaviate+https://HOST[/CLASS]            key in $WEAVIATE_API_KEY
pinecone://INDEX-HOST[#NAMESPACE]        key in $PINECONE_API_KEY

Each space of an index has a collection, table or folder of its own: another embedder makes other
vectors, often of other dimensions, so the new one fills beside the old. Covers reading and writing
addresses; `opening` opens what is there.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from lmstack.core import InputError, shown

__all__ = ["StoreAddress", "is_store_address", "parse_address"]

_SHAPES = (
    "sqlite:FILE",
    "faiss:FOLDER",
    "chroma:FOLDER#NAME",
    "chroma+http://HOST:PORT/NAME",
    "qdrant:FOLDER#NAME",
    "postgresql://HOST/DATABASE#TABLE",
    "weaviate+https://HOST/CLASS",
    "pinecone://INDEX-HOST#NAMESPACE",
)
_FILES = ("sqlite", "faiss")
_FOLDERS = ("chroma", "qdrant")
_DATABASES = ("postgresql", "postgres")
_SERVERS = ("chroma+http", "chroma+https", "weaviate+http", "weaviate+https")
_PINECONE = ("pinecone", "pinecone+http")
_SCHEMES = ("memory", *_FILES, *_FOLDERS, *_DATABASES, *_SERVERS, *_PINECONE)
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,60}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """``place`` is a path, or all before the name of an URL; ``name`` that of the collection,
    table, class or namespace, empty unless given."""

    scheme: str
    place: str = ""
    name: str = ""

    def __str__(self) -> str:
        if not self.name:
            return f"{self.scheme}:{self.place}"
        mark = "/" if self.scheme in _SERVERS else "#"
        return f"{self.scheme}:{self.place}{mark}{self.name}"

    @property
    def netloc(self) -> str:
        """Host and port of a server."""
        return urlsplit(f"{self.scheme}:{self.place}").netloc

    def absolute(self) -> StoreAddress:
        """The same place, as it is found from any folder."""
        if self.scheme in (*_FILES, *_FOLDERS):
            return replace(self, place=os.path.abspath(self.place))
        return self

    def of_space(self, space: int) -> StoreAddress:
        """Where the vectors of the space with this number are kept."""
        if self.scheme == "memory":
            return self
        if self.scheme == "sqlite":
            path = Path(self.place)
            return replace(self, place=str(path.with_name(f"{path.stem}-{space}{path.suffix}")))
        if self.scheme == "faiss":
            return replace(self, place=str(Path(self.place) / str(space)))
        joint = "_" if self.scheme.startswith(("weaviate", "postgres")) else "-"
        return replace(self, name=f"{self.name or self.default_name}{joint}{space}")

    @property
    def default_name(self) -> str:
        """What the collection, table or class is called unless a name is given."""
        if self.scheme in _DATABASES:
            return "lmstack_vectors"
        return "Lmstack" if self.scheme.startswith("weaviate") else "lmstack"


def is_store_address(text: str) -> bool:
    """Whether ``text`` begins as the address of a store does."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme in _SCHEMES


def parse_address(url: str) -> StoreAddress:
    """`InputError` for what is no address of a store, or holds a password."""
    scheme, colon, rest = url.partition(":")
    if not colon or (scheme == "memory" and rest):
        raise _unknown(url)
    if scheme == "memory":
        return StoreAddress(scheme)
    if scheme in (*_FILES, *_FOLDERS):
        return _in_files(scheme, url, rest)
    parts = urlsplit(url)
    if parts.password is not None or (parts.username and scheme not in _DATABASES):
        raise _bad(
            f"the address of the {scheme} store holds a name or a password",
            "take it out: keys and passwords come from the environment (docs/stores.md)",
        )
    if scheme in _DATABASES:
        place, _, name = rest.partition("#")
        return StoreAddress(scheme, place, name)
    if scheme not in _SCHEMES or not parts.hostname:
        raise _unknown(url)
    host = f"//{parts.netloc}"
    if scheme in _PINECONE:
        return StoreAddress(scheme, host, parts.fragment)
    name = parts.path.strip("/")
    return StoreAddress(scheme, host, _collection(name) if scheme.startswith("chroma") else name)


def _in_files(scheme: str, url: str, rest: str) -> StoreAddress:
    place, _, name = rest.partition("#") if scheme in _FOLDERS else (rest, "", "")
    if place.startswith("///"):  # as a URL of a file has it, without a host
        place = place.removeprefix("//")
    if not place.strip("/") or place.startswith("//"):
        raise _bad(
            f"the address {shown(url)} names no folder",
            f"write it like {next(shape for shape in _SHAPES if shape.startswith(scheme))}",
        )
    return StoreAddress(scheme, place, _collection(name))


def _collection(name: str) -> str:
    if name and not _COLLECTION.fullmatch(name):
        raise _bad(
            f"{shown(name)} cannot be the name of a collection", "3 to 62 letters, digits, _ or -"
        )
    return name


def _unknown(url: str) -> InputError:
    shape = re.sub(r"//[^@/]*@", "//", url)
    return _bad(f"the address of a store {shown(shape)} is not known", "; ".join(_SHAPES))


def _bad(message: str, hint: str) -> InputError:
    return InputError(message, hint=hint, param="store")
