"""From a folder of documents to cited answers: load, chunk, index, search, cite. No torch.

Names are looked up when they are used: searching loads no reader of documents.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmstack.rag.answers.answer import (
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
        OutcomeKnown,
        PassagesFound,
        SentenceChecked,
        TextDelta,
    )
    from lmstack.rag.answers.answerer import NOTHING, Answerer, Found
    from lmstack.rag.answers.counting import AnswerTokenizer
    from lmstack.rag.answers.grounded import GroundedModel
    from lmstack.rag.answers.support import OverlapSupport, SupportScorer
    from lmstack.rag.catalogue.listing import DocumentInfo
    from lmstack.rag.catalogue.status import IndexStatus
    from lmstack.rag.catalogue.verify import VerifyReport
    from lmstack.rag.chunk import Chunk, ChunkConfig
    from lmstack.rag.chunking import Chunker, ContextWriter, chunk_document
    from lmstack.rag.documents import Block, Document, Problem, Section
    from lmstack.rag.index import Index
    from lmstack.rag.labels import check_labels
    from lmstack.rag.opening import IndexConfig
    from lmstack.rag.reading.ignoring import Rules
    from lmstack.rag.reading.load import FORMATS, LoadConfig, load_document
    from lmstack.rag.reading.workers import WorkerConfig, Workers
    from lmstack.rag.search.followup import turns_of
    from lmstack.rag.search.hybrid import Hit, SearchConfig
    from lmstack.rag.search.retrieval import RetrievalConfig, Retrieved, StageTrace, Trace, preset
    from lmstack.rag.search.retriever import Retriever
    from lmstack.rag.search.stages.late import LateInteraction, TokenEmbedder
    from lmstack.rag.updating.plan import Plan
    from lmstack.rag.updating.update import Progress, UpdateResult
    from lmstack.rag.vectors.blob_cache import BlobCache, KeptLines
    from lmstack.rag.vectors.cached_embedder import CachedEmbedder
    from lmstack.rag.vectors.remote_embedder import RemoteEmbedder
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
            "OutcomeKnown",
            "PassagesFound",
            "SentenceChecked",
            "TextDelta",
        ),
        "lmstack.rag.answers.answer",
    ),
    **dict.fromkeys(("NOTHING", "Answerer", "Found"), "lmstack.rag.answers.answerer"),
    "AnswerTokenizer": "lmstack.rag.answers.counting",
    "GroundedModel": "lmstack.rag.answers.grounded",
    **dict.fromkeys(("OverlapSupport", "SupportScorer"), "lmstack.rag.answers.support"),
    "DocumentInfo": "lmstack.rag.catalogue.listing",
    "IndexStatus": "lmstack.rag.catalogue.status",
    "VerifyReport": "lmstack.rag.catalogue.verify",
    **dict.fromkeys(("Chunk", "ChunkConfig"), "lmstack.rag.chunk"),
    **dict.fromkeys(("Chunker", "ContextWriter", "chunk_document"), "lmstack.rag.chunking"),
    **dict.fromkeys(("Block", "Document", "Problem", "Section"), "lmstack.rag.documents"),
    "Index": "lmstack.rag.index",
    "check_labels": "lmstack.rag.labels",
    "IndexConfig": "lmstack.rag.opening",
    "Rules": "lmstack.rag.reading.ignoring",
    **dict.fromkeys(("FORMATS", "LoadConfig", "load_document"), "lmstack.rag.reading.load"),
    **dict.fromkeys(("WorkerConfig", "Workers"), "lmstack.rag.reading.workers"),
    "turns_of": "lmstack.rag.search.followup",
    **dict.fromkeys(("Hit", "SearchConfig"), "lmstack.rag.search.hybrid"),
    **dict.fromkeys(
        ("RetrievalConfig", "Retrieved", "StageTrace", "Trace", "preset"),
        "lmstack.rag.search.retrieval",
    ),
    "Retriever": "lmstack.rag.search.retriever",
    **dict.fromkeys(("LateInteraction", "TokenEmbedder"), "lmstack.rag.search.stages.late"),
    "Plan": "lmstack.rag.updating.plan",
    **dict.fromkeys(("Progress", "UpdateResult"), "lmstack.rag.updating.update"),
    **dict.fromkeys(("BlobCache", "KeptLines"), "lmstack.rag.vectors.blob_cache"),
    "CachedEmbedder": "lmstack.rag.vectors.cached_embedder",
    "RemoteEmbedder": "lmstack.rag.vectors.remote_embedder",
    "IndexView": "lmstack.rag.view",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = found
    return found
