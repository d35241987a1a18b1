"""From a question to ranked passages: words, meaning, and the stages above them."""

__all__ = ()
