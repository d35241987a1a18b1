"""Tokens computed before they are drawn."""

__all__ = ()
