"""One module a file format: bytes to text, structure, pages and fields. `load` picks the module."""

__all__ = ()
