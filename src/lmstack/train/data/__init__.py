"""Files of rows to examples in an order that follows from a seed and a position."""

__all__ = ()
