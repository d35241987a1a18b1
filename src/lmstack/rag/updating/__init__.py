"""What changed on disk becomes a change of the index: planned, read, embedded, committed."""

__all__ = ()
