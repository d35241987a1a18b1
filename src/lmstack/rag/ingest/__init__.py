"""From sources to an index: scanned, planned, parsed in workers, embedded, written."""

__all__ = ()
