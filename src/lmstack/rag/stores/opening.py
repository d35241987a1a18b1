"""Open the store at an address (`address` lists what there is)."""

from __future__ import annotations

from pathlib import Path

from lmstack.core import InputError
from lmstack.rag.stores.address import StoreAddress, parse_address
from lmstack.rag.stores.protocol import VectorStore

__all__ = ["open_store"]


def open_store(address: str | StoreAddress, dimensions: int, *, create: bool = True) -> VectorStore:
    """The store at ``address`` for vectors of ``dimensions``, made if ``create`` and absent.

    `InputError` for an address that cannot be read or a store of other dimensions,
    `ExtraMissingError` that names the extra, `NotFoundError`, `StoreError`, `FormatError` for
    something there that is not a store of lmstack's.
    """
    if dimensions < 1:
        raise InputError(f"{dimensions} dimensions", hint="one or more", param="store")
    where = parse_address(address) if isinstance(address, str) else address
    if where.scheme in ("memory", "sqlite", "faiss", "chroma", "qdrant"):
        return _embedded(where, dimensions, create)
    return _on_server(where, dimensions, create)


def _embedded(where: StoreAddress, dimensions: int, create: bool) -> VectorStore:
    path, name = Path(where.place), where.name or where.default_name
    if where.scheme in ("memory", "sqlite"):
        from lmstack.rag.stores.embedded import EmbeddedStore

        file = None if where.scheme == "memory" else path
        return EmbeddedStore(file, dimensions, create=create)
    if where.scheme == "faiss":
        from lmstack.rag.stores.faiss import FaissStore

        return FaissStore(path, dimensions, create=create)
    if where.scheme == "chroma":
        from lmstack.rag.stores.chroma import ChromaStore

        return ChromaStore.in_folder(path, name, dimensions, create=create)
    from lmstack.rag.stores.qdrant import QdrantStore

    return QdrantStore(path, name, dimensions, create=create)


def _on_server(where: StoreAddress, dimensions: int, create: bool) -> VectorStore:
    name = where.name or where.default_name
    if where.scheme in ("postgresql", "postgres"):
        from lmstack.rag.stores.postgres import PostgresStore

        base = f"{where.scheme}:{where.place}"
        return PostgresStore(base, name, dimensions, create=create)
    product, _, protocol = where.scheme.partition("+")
    base = f"{protocol or 'https'}://{where.netloc}"
    if product == "chroma":
        from lmstack.rag.stores.chroma import ChromaStore

        return ChromaStore.on_server(base, name, dimensions, create=create)
    if product == "weaviate":
        from lmstack.rag.stores.weaviate import WeaviateStore

        return WeaviateStore(base, name, dimensions, create=create)
    from lmstack.rag.stores.pinecone import PineconeStore

    return PineconeStore(base, where.name, dimensions)
