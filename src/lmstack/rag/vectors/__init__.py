"""Vectors besides search: made elsewhere, kept, compared, grouped and drawn."""

__all__ = ()
