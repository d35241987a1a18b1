"""The web page: its routes on the server's app, its files, pictures and uploads."""

__all__ = ()
