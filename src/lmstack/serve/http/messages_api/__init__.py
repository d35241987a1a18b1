"""Anthropic's Messages API."""

__all__ = ()
