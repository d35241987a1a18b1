"""Where vectors and an index live, as people write it, and opening the store that is there.

faiss:FOLDER                             extra: faiss (a cache of the index: see `graph`)
chroma:FOLDER[#NAME]                     extra: chroma
chroma+http://HOST:PORT[/NAME]           key, if any, in $LMSTACK_CHROMA_KEY
qdrant+http://HOST:PORT[/NAME]           extra: qdrant; key, if any, in $QDRANT_API_KEY
postgresql://[USER@]HOST/DATABASE#TABLE  extra: postgres
weaviate+https://HOST[/CLASS]            key in $WEAVIATE_API_KEY
pinecone://INDEX-HOST[#NAMESPACE]        key in $PINECONE_API_KEY

Each space of an index has a collection, table or namespace of its own: another embedder makes
other vectors, often of other dimensions, so the new one fills beside the old. An index itself is
in a folder or a PostgreSQL database: every command line and `Index.open` read its place with
`index_place`.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lmstack.core import InputError, shown

if TYPE_CHECKING:
    from lmstack.rag.stores.store import VectorStore

__all__ = ["StoreAddress", "index_place", "is_store_address", "open_store", "parse_address"]

_SHAPES = (
    "faiss:FOLDER",
    "chroma:FOLDER#NAME",
    "chroma+http://HOST:PORT/NAME",
    "qdrant+http://HOST:PORT/NAME",
    "postgresql://HOST/DATABASE#TABLE",
    "weaviate+https://HOST/CLASS",
    "pinecone://INDEX-HOST#NAMESPACE",
)
_FOLDERS = ("faiss", "chroma")
_DATABASES = ("postgresql", "postgres")
_SERVERS = tuple(f"{one}+http{s}" for one in ("chroma", "qdrant", "weaviate") for s in ("", "s"))
_PINECONE = ("pinecone", "pinecone+http")
_SCHEMES = (*_FOLDERS, *_DATABASES, *_SERVERS, *_PINECONE)
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{1,60}[A-Za-z0-9]")


@dataclass(frozen=True, slots=True)
class StoreAddress:
    """``place`` is a path, or all before the name of an URL; ``name`` that of the collection,
    table, class or namespace, empty unless given."""

    scheme: str
    place: str
    name: str = ""

    def __str__(self) -> str:
        if not self.name:
            return f"{self.scheme}:{self.place}"
        mark = "/" if self.scheme in _SERVERS else "#"
        return f"{self.scheme}:{self.place}{mark}{self.name}"

    def absolute(self) -> StoreAddress:
        """The same place, as it is found from any folder."""
        if self.scheme in _FOLDERS:
            return replace(self, place=os.path.abspath(self.place))
        return self

    def of_space(self, space: int) -> StoreAddress:
        """Where the vectors of the space with this number are kept."""
        joint = "_" if self.scheme.startswith(("weaviate", "postgres")) else "-"
        return replace(self, name=f"{self.name or self.default_name}{joint}{space}")

    @property
    def default_name(self) -> str:
        """What the collection, table or class is called unless a name is given."""
        if self.scheme in _DATABASES:
            return "lmstack_vectors"
        return "Lmstack" if self.scheme.startswith("weaviate") else "lmstack"


def open_store(address: str | StoreAddress, dimensions: int, *, create: bool = True) -> VectorStore:
    """The store at ``address`` for vectors of ``dimensions``, made if ``create`` and absent.

    `InputError` for an address that cannot be read or a store of other dimensions,
    `ExtraMissingError` that names the extra, `NotFoundError`, `StoreError`, `FormatError` for
    something there that is not a store of lmstack's.
    """
    if dimensions < 1:
        raise InputError(f"{dimensions} dimensions", hint="one or more", param="store")
    where = parse_address(address) if isinstance(address, str) else address
    name = where.name or where.default_name
    product, _, protocol = where.scheme.partition("+")
    base = f"{protocol or 'https'}:{where.place}"
    if product == "faiss":
        raise _bad(
            "FAISS is a cache of an index, and holds no rows by itself",
            "give it to an index: lmstack index add --store faiss:FOLDER",
        )
    if product == "pinecone":
        from lmstack.rag.stores.pinecone import PineconeStore

        return PineconeStore(base, where.name, dimensions)
    if product in _DATABASES:
        from lmstack.rag.stores.postgres import PostgresStore

        return PostgresStore(f"{product}:{where.place}", name, dimensions, create=create)
    if product == "chroma":
        from lmstack.rag.stores.chroma import ChromaStore

        place = base if protocol else Path(where.place)
        return ChromaStore(place, name, dimensions, create=create)
    if product == "qdrant":
        from lmstack.rag.stores.qdrant import QdrantStore

        return QdrantStore(base, name, dimensions, create=create)
    from lmstack.rag.stores.weaviate import WeaviateStore

    return WeaviateStore(base, name, dimensions, create=create)


def is_store_address(text: str) -> bool:
    """Whether ``text`` begins as the address of a store does."""
    scheme, colon, _ = text.partition(":")
    return bool(colon) and scheme in _SCHEMES


def parse_address(url: str) -> StoreAddress:
    """`InputError` for what is no address of a store, or holds a password."""
    scheme, colon, rest = url.partition(":")
    if colon and scheme in _FOLDERS:
        return _in_folder(scheme, url, rest)
    parts = urlsplit(url)
    if colon and (parts.password is not None or (parts.username and scheme not in _DATABASES)):
        raise _bad(
            f"the address of the {scheme} store holds a name or a password",
            "take it out: keys and passwords come from the environment (docs/stores.md)",
        )
    if colon and scheme in _DATABASES:
        place, _, name = rest.partition("#")
        return StoreAddress(scheme, place, name)
    if scheme not in _SCHEMES or not parts.hostname:
        shape = re.sub(r"//[^@/]*@", "//", url)
        raise _bad(f"the address of a store {shown(shape)} is not known", "; ".join(_SHAPES))
    host = f"//{parts.netloc}"
    if scheme in _PINECONE:
        return StoreAddress(scheme, host, parts.fragment)
    name = parts.path.strip("/")
    return StoreAddress(scheme, host, name if scheme.startswith("weaviate") else _collection(name))


def _in_folder(scheme: str, url: str, rest: str) -> StoreAddress:
    place, _, name = rest.partition("#") if scheme == "chroma" else (rest, "", "")
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


def _bad(message: str, hint: str) -> InputError:
    return InputError(message, hint=hint, param="store")


_CATALOGUES = ("postgresql://", "postgres://")
_URL = re.compile(r"[a-z][a-z0-9+.-]*:/", re.IGNORECASE)


def index_place(place: str | Path) -> str | Path:
    """``place`` as a folder, or unchanged if it is the address of a database. `InputError` for
    the address of anything else, which would otherwise become a folder of that name."""
    text = str(place)
    if isinstance(place, str) and place.startswith(_CATALOGUES):
        return place
    is_url = _URL.match(text) is not None or is_store_address(text)
    if not is_url or Path(text).exists():
        return Path(place)
    hint = "give a folder or postgresql://HOST/DATABASE; a store of vectors is named by --store"
    if isinstance(place, Path):
        hint = "give an address as a str: in a Path, two slashes become one"
    raise InputError(f"{shown(text)} names no index", hint=hint, param="index")
