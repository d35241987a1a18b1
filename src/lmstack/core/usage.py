"""Tokens that were read and written, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass

from lmstack.core.config import Config, allowed

__all__ = ["Price", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts. ``cached_tokens``: prompt tokens taken from the prefix cache."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
        )


@dataclass(frozen=True)
class Price(Config):
    """Of a million tokens, in any currency. ``cached``: of a prompt's tokens that were in the
    cache; None: the same as ``input``."""

    input: float = allowed(0.0, float, 0, 1e9)
    output: float = allowed(0.0, float, 0, 1e9)
    cached: float | None = allowed(None, float, 0, 1e9)

    def of(self, usage: Usage) -> float:
        cached = self.input if self.cached is None else self.cached
        fresh = usage.prompt_tokens - usage.cached_tokens
        amount = fresh * self.input + usage.cached_tokens * cached
        return (amount + usage.completion_tokens * self.output) / 1e6
