"""What is built over training and has no gradient of its own: who draws rollouts and lends rewards,
what judges rows, best of several answers, Constitutional AI, scaling laws."""

__all__ = ()
