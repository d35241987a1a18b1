"""From a folder of documents to cited answers: load, chunk, index, search, cite. No torch.

Names are looked up when they are used: searching loads no reader of documents.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

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
    from lmstack.rag.catalogue.labels import check_labels
    from lmstack.rag.catalogue.listing import DocumentInfo
    from lmstack.rag.catalogue.rules import Rules
    from lmstack.rag.catalogue.verify import VerifyReport
    from lmstack.rag.chunk import Chunk, ChunkConfig
    from lmstack.rag.chunking import Chunker, ContextWriter, chunk_document
    from lmstack.rag.documents import Block, Document, Problem, Section
    from lmstack.rag.formats.load import FORMATS, LoadConfig, load_document
    from lmstack.rag.index import Index
    from lmstack.rag.ingest.plan import IndexStatus, Plan
    from lmstack.rag.ingest.update import Progress, UpdateResult
    from lmstack.rag.ingest.workers import WorkerConfig, Workers
    from lmstack.rag.opening import IndexConfig
    from lmstack.rag.remote_embedder import RemoteEmbedder
    from lmstack.rag.retrieve.hybrid import Hit, SearchConfig
    from lmstack.rag.retrieve.retrieval import RetrievalConfig, Retrieved, StageTrace, Trace, preset
    from lmstack.rag.retrieve.retriever import Retriever
    from lmstack.rag.retrieve.rewriting import turns_of
    from lmstack.rag.retrieve.stages import LateInteraction, TokenEmbedder
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
    "KeptLines",
    "LateInteraction",
    "LoadConfig",
    "OutcomeKnown",
    "OverlapSupport",
    "PassagesFound",
    "Plan",
    "Problem",
    "Progress",
    "QuotesFound",
    "ReadingProgress",
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

_HOMES = {
    **dict.fromkeys(
        (
            "Answer",
            "AnswerConfig",
            "AnswerDone",
            "AnswerEvent",
            "AnswerSentence",
            "AnswerTimings",
            "AnswerWishes",
            "Citation",
            "CitationFound",
            "Conflict",
            "ConflictFound",
            "DroppedSentence",
            "OutcomeKnown",
            "PassagesFound",
            "QuotesFound",
            "ReadingProgress",
            "SentenceChecked",
            "TextDelta",
        ),
        "lmstack.rag.answer.answer",
    ),
    **dict.fromkeys(("NOTHING", "Answerer", "Found"), "lmstack.rag.answer.answerer"),
    "AnswerTokenizer": "lmstack.rag.answer.grounded",
    "GroundedModel": "lmstack.rag.answer.grounded",
    **dict.fromkeys(("OverlapSupport", "SupportScorer"), "lmstack.rag.answer.support"),
    "DocumentInfo": "lmstack.rag.catalogue.listing",
    "IndexStatus": "lmstack.rag.ingest.plan",
    "VerifyReport": "lmstack.rag.catalogue.verify",
    **dict.fromkeys(("Chunk", "ChunkConfig"), "lmstack.rag.chunk"),
    **dict.fromkeys(("Chunker", "ContextWriter", "chunk_document"), "lmstack.rag.chunking"),
    **dict.fromkeys(("Block", "Document", "Problem", "Section"), "lmstack.rag.documents"),
    "Index": "lmstack.rag.index",
    "check_labels": "lmstack.rag.catalogue.labels",
    "IndexConfig": "lmstack.rag.opening",
    "Rules": "lmstack.rag.catalogue.rules",
    **dict.fromkeys(("FORMATS", "LoadConfig", "load_document"), "lmstack.rag.formats.load"),
    **dict.fromkeys(("WorkerConfig", "Workers"), "lmstack.rag.ingest.workers"),
    "turns_of": "lmstack.rag.retrieve.rewriting",
    **dict.fromkeys(("Hit", "SearchConfig"), "lmstack.rag.retrieve.hybrid"),
    **dict.fromkeys(
        ("RetrievalConfig", "Retrieved", "StageTrace", "Trace", "preset"),
        "lmstack.rag.retrieve.retrieval",
    ),
    "Retriever": "lmstack.rag.retrieve.retriever",
    **dict.fromkeys(("LateInteraction", "TokenEmbedder"), "lmstack.rag.retrieve.stages"),
    "Plan": "lmstack.rag.ingest.plan",
    **dict.fromkeys(("Progress", "UpdateResult"), "lmstack.rag.ingest.update"),
    **dict.fromkeys(("BlobCache", "KeptLines"), "lmstack.rag.cached_embedder"),
    "CachedEmbedder": "lmstack.rag.cached_embedder",
    "RemoteEmbedder": "lmstack.rag.remote_embedder",
    "IndexView": "lmstack.rag.view",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
