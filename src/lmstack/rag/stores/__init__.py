"""Vector stores behind one interface: see `protocol` for what it asks."""

from lmstack.rag.stores.opening import open_store
from lmstack.rag.stores.protocol import Found, Ids, Stored, Vectors, VectorStore

__all__ = ["Found", "Ids", "Stored", "VectorStore", "Vectors", "open_store"]
