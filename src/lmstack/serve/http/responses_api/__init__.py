"""OpenAI's Responses API, stateless."""

__all__ = ()
