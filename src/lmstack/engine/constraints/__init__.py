"""What a text may be, and where it ends: grammars, stop strings and patterns over a vocabulary."""

__all__ = ()
