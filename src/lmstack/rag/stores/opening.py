"""Open a store by its address.

memory:                                  for tests
sqlite:FILE                              one file, exact scan
faiss:FOLDER                             extra: faiss
chroma:FOLDER[#NAME]                     extra: chroma
chroma+http://HOST:PORT/NAME             key, if any, in $LMSTACK_CHROMA_KEY
qdrant:FOLDER[#NAME]                     extra: qdrant
postgresql://[USER@]HOST/DATABASE#TABLE  extra: postgres
weaviate+https://HOST/CLASS              key in $WEAVIATE_API_KEY
pinecone://INDEX-HOST[#NAMESPACE]        key in $PINECONE_API_KEY
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from lmstack.core import InputError, shown
from lmstack.rag.stores.protocol import VectorStore

__all__ = ["SCHEMES", "open_store"]

SCHEMES = (
    "memory:",
    "sqlite:FILE",
    "faiss:FOLDER",
    "chroma:FOLDER#NAME",
    "chroma+http://HOST:PORT/NAME",
    "qdrant:FOLDER#NAME",
    "postgresql://HOST/DATABASE#TABLE",
    "weaviate+https://HOST/CLASS",
    "pinecone://INDEX-HOST#NAMESPACE",
)
_NAME = "lmstack"


def open_store(url: str, dimensions: int, *, create: bool = True) -> VectorStore:
    """The store at ``url`` for vectors of ``dimensions``, made if ``create`` and absent.

    `InputError` for an address that cannot be read or a store of other dimensions,
    `ExtraMissingError` that names the extra, `NotFoundError`, `StoreError`, `FormatError` for
    something there that is not a store of lmstack's.
    """
    scheme, colon, rest = url.partition(":")
    if dimensions < 1:
        raise _bad(f"{dimensions} dimensions", "one or more")
    if not colon:
        raise _unknown(url)
    if scheme in ("sqlite", "faiss", "chroma", "qdrant"):
        return _in_folder(scheme, url, rest, dimensions, create)
    if url == "memory:":
        from lmstack.rag.stores.embedded import EmbeddedStore

        return EmbeddedStore(None, dimensions)
    parts = urlsplit(url)
    if parts.password is not None or (parts.username and scheme not in ("postgresql", "postgres")):
        raise _bad(
            f"the address of the {scheme} store holds a name or a password",
            "take it out: keys and passwords come from the environment (docs/stores.md)",
        )
    if scheme in ("postgresql", "postgres"):
        from lmstack.rag.stores.postgres import PostgresStore

        base, _, table = url.partition("#")
        return PostgresStore(base, table or "lmstack_vectors", dimensions, create=create)
    if not parts.hostname:
        raise _unknown(url)
    if scheme in ("chroma+http", "chroma+https"):
        from lmstack.rag.stores.chroma import ChromaStore

        base = f"{scheme.removeprefix('chroma+')}://{parts.netloc}"
        name = _collection(parts.path.strip("/") or _NAME)
        return ChromaStore.on_server(base, name, dimensions, create=create)
    if scheme in ("weaviate+http", "weaviate+https"):
        from lmstack.rag.stores.weaviate import WeaviateStore

        base = f"{scheme.removeprefix('weaviate+')}://{parts.netloc}"
        return WeaviateStore(base, parts.path.strip("/") or "Lmstack", dimensions, create=create)
    if scheme in ("pinecone", "pinecone+http"):
        from lmstack.rag.stores.pinecone import PineconeStore

        base = f"{'http' if scheme.endswith('http') else 'https'}://{parts.netloc}"
        return PineconeStore(base, parts.fragment, dimensions)
    raise _unknown(url)


def _in_folder(scheme: str, url: str, rest: str, dimensions: int, create: bool) -> VectorStore:
    place, _, name = rest.partition("#") if scheme in ("chroma", "qdrant") else (rest, "", "")
    if not place or place.startswith("//"):
        raise _bad(f"the address {shown(url)} names no folder", f"write it like {scheme}:FOLDER")
    path = Path(place)
    if scheme == "sqlite":
        from lmstack.rag.stores.embedded import EmbeddedStore

        return EmbeddedStore(path, dimensions, create=create)
    if scheme == "faiss":
        from lmstack.rag.stores.faiss import FaissStore

        return FaissStore(path, dimensions, create=create)
    if scheme == "chroma":
        from lmstack.rag.stores.chroma import ChromaStore

        return ChromaStore.in_folder(path, _collection(name or _NAME), dimensions, create=create)
    from lmstack.rag.stores.qdrant import QdrantStore

    return QdrantStore(path, _collection(name or _NAME), dimensions, create=create)


def _collection(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{1,60}[A-Za-z0-9]", name):
        raise _bad(
            f"{shown(name)} cannot be the name of a collection", "3 to 62 letters, digits, _ or -"
        )
    return name


def _unknown(url: str) -> InputError:
    shape = re.sub(r"//[^@/]*@", "//", url)
    return _bad(f"the address of a store {shown(shape)} is not known", "; ".join(SCHEMES))


def _bad(message: str, hint: str) -> InputError:
    return InputError(message, hint=hint, param="store")
