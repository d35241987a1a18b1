"""Cutting documents into chunks: five strategies over one exact measure of tokens."""

from lmstack.rag.chunking.chunker import Chunker, ContextWriter, chunk_document

__all__ = ["Chunker", "ContextWriter", "chunk_document"]
