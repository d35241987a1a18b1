"""Models at a provider, behind the same protocol as local ones. No torch."""

from lmstack.remote.providers import AnthropicModel, OpenAIModel

__all__ = ["AnthropicModel", "OpenAIModel"]
