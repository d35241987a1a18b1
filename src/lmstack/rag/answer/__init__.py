"""From passages to an answer whose every sentence is cited, or to an abstention."""

__all__ = ()
