"""From a folder of documents to cited answers: load, chunk, index, search, cite. No torch."""

from lmstack.rag.answerer import ABSTENTION, Answerer, Found
from lmstack.rag.answers import (
    Abstained,
    Answer,
    AnswerConfig,
    AnswerDone,
    AnswerEvent,
    AnswerSentence,
    AnswerTimings,
    Citation,
    CitationFound,
    Conflict,
    ConflictFound,
    PassagesFound,
    SentenceChecked,
    TextDelta,
)
from lmstack.rag.blob_cache import BlobCache, KeptLines
from lmstack.rag.cached_embedder import CachedEmbedder
from lmstack.rag.chunk import Chunk, ChunkConfig
from lmstack.rag.chunking import Chunker, ContextWriter, chunk_document
from lmstack.rag.documents import Block, Document, Problem, Section
from lmstack.rag.followup import turns_of
from lmstack.rag.grounded import GroundedModel
from lmstack.rag.ignoring import Rules
from lmstack.rag.index import Index
from lmstack.rag.labels import check_labels
from lmstack.rag.listing import DocumentInfo
from lmstack.rag.load import FORMATS, LoadConfig, load_document
from lmstack.rag.opening import IndexConfig
from lmstack.rag.plan import Plan
from lmstack.rag.remote_embedder import RemoteEmbedder
from lmstack.rag.retrieval import RetrievalConfig, Retrieved, StageTrace, Trace, preset
from lmstack.rag.retriever import Retriever
from lmstack.rag.search import Hit, SearchConfig
from lmstack.rag.stages.late import LateInteraction, TokenEmbedder
from lmstack.rag.status import IndexStatus
from lmstack.rag.support import OverlapSupport, SupportScorer
from lmstack.rag.update import Progress, UpdateResult
from lmstack.rag.verify import VerifyReport
from lmstack.rag.view import IndexView
from lmstack.rag.workers import WorkerConfig, Workers

__all__ = [
    "ABSTENTION",
    "FORMATS",
    "Abstained",
    "Answer",
    "AnswerConfig",
    "AnswerDone",
    "AnswerEvent",
    "AnswerSentence",
    "AnswerTimings",
    "Answerer",
    "BlobCache",
    "Block",
    "CachedEmbedder",
    "Chunk",
    "ChunkConfig",
    "Chunker",
    "Citation",
    "CitationFound",
    "Conflict",
    "ConflictFound",
    "ContextWriter",
    "Document",
    "DocumentInfo",
    "Found",
    "GroundedModel",
    "Hit",
    "Index",
    "IndexConfig",
    "IndexStatus",
    "IndexView",
    "KeptLines",
    "LateInteraction",
    "LoadConfig",
    "OverlapSupport",
    "PassagesFound",
    "Plan",
    "Problem",
    "Progress",
    "RemoteEmbedder",
    "RetrievalConfig",
    "Retrieved",
    "Retriever",
    "Rules",
    "SearchConfig",
    "Section",
    "SentenceChecked",
    "StageTrace",
    "SupportScorer",
    "TextDelta",
    "TokenEmbedder",
    "Trace",
    "UpdateResult",
    "VerifyReport",
    "WorkerConfig",
    "Workers",
    "check_labels",
    "chunk_document",
    "load_document",
    "preset",
    "turns_of",
]
