"""The HTTP app and the socket that it listens on."""

__all__ = ()
