"""Charts as SVG in a page: axes, labels, and the shapes that all of them are made of."""

__all__ = ()
