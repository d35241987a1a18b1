"""Vector stores behind one interface (`store`), and what an index does with one (`keeping`)."""

from lmstack.rag.stores.address import open_store
from lmstack.rag.stores.rows import Ids, StoredRow, StoreHit, Vectors
from lmstack.rag.stores.store import VectorStore

__all__ = ["Ids", "StoreHit", "StoredRow", "VectorStore", "Vectors", "open_store"]
