"""What several requests used together."""

from __future__ import annotations

from collections.abc import Iterable

from lmstack.core import Usage

__all__ = ["total_usage"]


def total_usage(usages: Iterable[Usage]) -> Usage:
    prompt = completion = cached = 0
    for usage in usages:
        prompt += usage.prompt_tokens
        completion += usage.completion_tokens
        cached += usage.cached_tokens
    return Usage(prompt, completion, cached)
