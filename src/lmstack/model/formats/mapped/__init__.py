"""Weights in one of our forms, in files that are used through a memory map."""

__all__ = ()
