"""How large a model and how much text a budget is best spent on: published laws, and one's own."""

__all__ = ()
