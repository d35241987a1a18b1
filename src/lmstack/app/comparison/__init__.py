"""Two models compared: their answers drawn, scored by tensors, and shown as a page."""

__all__ = ()
