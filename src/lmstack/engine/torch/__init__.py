"""A model's passes by the reference ops of torch."""

__all__ = ()
