"""Scripted models that can be told apart by their digests, and one that fails where it is told."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

from lmstack.core import Delta, EngineError, Message, ModelInfo, Request, ScriptedModel

__all__ = ["BreakingModel", "asked", "digest_of", "version"]


def digest_of(name: str) -> str:
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


def version(name: str, replies: Sequence[Any] = ("ok",), **options: Any) -> ScriptedModel:
    """A `ScriptedModel` with a digest of its own."""
    model = ScriptedModel(replies, name=name, **options)
    model.info = replace(model.info, digest=digest_of(name))
    return model


class BreakingModel:
    """Says ``words`` and then fails; without any it fails before its first event."""

    def __init__(self, words: Sequence[str] = (), name: str = "breaking") -> None:
        self.info = ModelInfo(name, digest_of(name), 8192)
        self.words, self.num_asked = words, 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.num_asked += 1
        for word in self.words:
            yield Delta(word)
        raise EngineError("the engine stopped", hint="look at the server's log")


def asked(text: str, client: str = "local", **options: Any) -> Request:
    return Request((Message("user", text),), client=client, **options)
