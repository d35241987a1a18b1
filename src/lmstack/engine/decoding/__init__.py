"""What may be said next, and when a text ends."""

__all__ = ()
