"""Matrices held as small integers: the forms, how they are made, what they cost."""

__all__ = ()
