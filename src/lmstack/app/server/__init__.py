"""What `lmstack up` runs: a folder with its index and models, who may see what, the socket."""

__all__ = ()
