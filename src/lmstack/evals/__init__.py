"""How good answers are: judges, and two models compared. Tasks are not written yet."""

__all__ = ()
