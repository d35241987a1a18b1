"""Where models come from: packages, repositories, folders."""

__all__ = ()
