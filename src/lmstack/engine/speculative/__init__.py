"""Speculative decoding: drafts by prompt lookup or by a draft model, and whether they pay."""

__all__ = ()
