"""GGUF files, read and written."""

__all__ = ()
