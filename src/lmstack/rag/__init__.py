"""From a folder of documents to cited answers: load, chunk, index, search, cite. No torch."""

from lmstack.rag.chunk import Chunk, ChunkConfig, chunk_document
from lmstack.rag.documents import Block, Document, Problem, Section
from lmstack.rag.index import Index, IndexConfig, IndexStatus
from lmstack.rag.load import FORMATS, LoadConfig, load_document
from lmstack.rag.plan import Plan
from lmstack.rag.search import Hit, SearchConfig
from lmstack.rag.store import DocumentInfo
from lmstack.rag.update import Progress, UpdateResult
from lmstack.rag.verify import VerifyReport

__all__ = [
    "FORMATS",
    "Block",
    "Chunk",
    "ChunkConfig",
    "Document",
    "DocumentInfo",
    "Hit",
    "Index",
    "IndexConfig",
    "IndexStatus",
    "LoadConfig",
    "Plan",
    "Problem",
    "Progress",
    "SearchConfig",
    "Section",
    "UpdateResult",
    "VerifyReport",
    "chunk_document",
    "load_document",
]
