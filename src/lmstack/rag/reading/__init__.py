"""Files to documents: found, read and parsed, each by a process that can do little else."""

__all__ = ()
