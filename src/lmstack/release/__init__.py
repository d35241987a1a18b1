"""What is served under a name: aliases and the releases they stand for, promotion through a gate,
canaries and shadows, and what people say of answers."""

__all__ = ()
