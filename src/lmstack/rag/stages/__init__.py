"""The stages of a search, a file each; `lmstack.rag.retriever` puts them in order."""

__all__ = ()
