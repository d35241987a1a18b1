"""What pages and reports are made with: templates, design tokens, and a kit for charts."""

__all__ = ()
