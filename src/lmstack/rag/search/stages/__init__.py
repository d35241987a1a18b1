"""The stages of a search, a file each; `lmstack.rag.search.retriever` puts them in order."""

__all__ = ()
