"""What acts for a model: the sandbox that runs its code. No torch."""

__all__ = ()
