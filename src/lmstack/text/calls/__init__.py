"""Calls of tools as text: how a chat template writes them, and how they are read back."""

__all__ = ()
