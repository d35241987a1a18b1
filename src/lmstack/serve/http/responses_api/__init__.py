"""OpenAI's Responses API, stateless."""

__all__: list[str] = []
