"""Whether a model is any good for passages, by the languages of their documents."""

from __future__ import annotations

from collections.abc import Iterable

from lmstack.core import ModelInfo

__all__ = ["reads", "reads_most"]


def reads(info: ModelInfo, language: str) -> bool:
    """Whether text in ``language`` (a code of ISO 639-1, empty where it could not be told) is for
    the model of ``info``."""
    return not (info.languages and language) or language in info.languages


def reads_most(info: ModelInfo, languages: Iterable[str]) -> bool:
    """Whether the model reads at least half of the documents in ``languages``, one code for each.
    Those that could not be told do not count; without any that could, it does."""
    known = [reads(info, language) for language in languages if language]
    return 2 * sum(known) >= len(known)
