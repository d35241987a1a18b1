"""From a folder of documents to cited answers: load, chunk, index, search, cite. No torch.

Names are looked up when they are used: searching loads no reader of documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmstack.lazy_names import lazy_names

if TYPE_CHECKING:
    from lmstack.rag.answer.answer import (
        Answer,
        AnswerConfig,
        AnswerDone,
        AnswerEvent,
        AnswerSentence,
        AnswerTimings,
        AnswerWishes,
        Citation,
        CitationFound,
        Conflict,
        ConflictFound,
        DroppedSentence,
        OutcomeKnown,
        PassagesFound,
        QuotesFound,
        ReadingProgress,
        SentenceChecked,
        TextDelta,
    )
    from lmstack.rag.answer.answerer import NOTHING, Answerer, Found
    from lmstack.rag.answer.grounded import AnswerTokenizer, GroundedModel
    from lmstack.rag.answer.support import OverlapSupport, SupportScorer
    from lmstack.rag.cached_embedder import BlobCache, CachedEmbedder, KeptLines
    from lmstack.rag.catalogue.rules import SourceRules, check_labels
    from lmstack.rag.catalogue.snapshot import DocumentInfo
    from lmstack.rag.catalogue.verify import VerifyReport
    from lmstack.rag.chunk import Chunk, ChunkConfig
    from lmstack.rag.chunking import Chunker, ContextWriter, chunk_document
    from lmstack.rag.documents import Block, Document, Problem, Section
    from lmstack.rag.formats.load import FORMATS, LoadConfig, load_document
    from lmstack.rag.index import Index
    from lmstack.rag.ingest.plan import IndexStatus, IngestPlan
    from lmstack.rag.ingest.update import UpdateProgress, UpdateResult
    from lmstack.rag.ingest.workers import WorkerConfig, Workers
    from lmstack.rag.opening import IndexConfig
    from lmstack.rag.remote_embedder import RemoteEmbedder
    from lmstack.rag.retrieve.hybrid import Hit, SearchConfig
    from lmstack.rag.retrieve.retrieval import RetrievalConfig, Retrieved, StageTrace, Trace, preset
    from lmstack.rag.retrieve.retriever import Retriever
    from lmstack.rag.retrieve.rewriting import turns_of
    from lmstack.rag.retrieve.stages import LateInteractionReranker, TokenEmbedder
    from lmstack.rag.view import IndexView

__all__ = [
    "FORMATS",
    "NOTHING",
    "Answer",
    "AnswerConfig",
    "AnswerDone",
    "AnswerEvent",
    "AnswerSentence",
    "AnswerTimings",
    "AnswerTokenizer",
    "AnswerWishes",
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
    "DroppedSentence",
    "Found",
    "GroundedModel",
    "Hit",
    "Index",
    "IndexConfig",
    "IndexStatus",
    "IndexView",
    "IngestPlan",
    "KeptLines",
    "LateInteractionReranker",
    "LoadConfig",
    "OutcomeKnown",
    "OverlapSupport",
    "PassagesFound",
    "Problem",
    "QuotesFound",
    "ReadingProgress",
    "RemoteEmbedder",
    "RetrievalConfig",
    "Retrieved",
    "Retriever",
    "SearchConfig",
    "Section",
    "SentenceChecked",
    "SourceRules",
    "StageTrace",
    "SupportScorer",
    "TextDelta",
    "TokenEmbedder",
    "Trace",
    "UpdateProgress",
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

__getattr__, __dir__ = lazy_names(__name__)
