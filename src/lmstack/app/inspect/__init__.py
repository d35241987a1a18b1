"""What a machine, a model, a text or vectors are made of: measured, and as pictures."""

__all__ = ()
