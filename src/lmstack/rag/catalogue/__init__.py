"""The tables of an index, on SQLite or PostgreSQL: documents, chunks, vectors, postings."""

__all__ = ()
