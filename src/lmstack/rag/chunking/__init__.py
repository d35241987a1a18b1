"""Cutting documents into chunks: five strategies over one exact measure of tokens."""

from lmstack.rag.chunking.chunker import Chunker, chunk_document
from lmstack.rag.chunking.context import ContextWriter

__all__ = ["Chunker", "ContextWriter", "chunk_document"]
