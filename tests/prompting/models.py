"""Scripted models that can be held to a form, or say in one way or another that they cannot."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from lmstack.core import Delta, FinishReason, InputError, Request, ScriptedModel, UnsupportedError

__all__ = ["Filtered", "PickyProvider", "Unheld"]


class Unheld(ScriptedModel):
    """Says so before the first event, as `lmstack.remote` does."""

    refused = 0

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        self.refuse(request)
        async for delta in super().stream(request):
            yield delta

    def refuse(self, request: Request) -> None:
        if request.grammar is not None:
            self.refused += 1
            raise UnsupportedError("no grammars here", param="response_format")


class PickyProvider(Unheld):
    """A remote model whose provider refuses the schema, in its own words."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.info = replace(self.info, digest=None)

    def refuse(self, request: Request) -> None:
        if request.grammar is not None:
            self.refused += 1
            raise InputError("'additionalProperties' is required to be false", param="text.format")


class Filtered(ScriptedModel):
    """Its answers end for a reason of the provider's."""

    def __init__(self, text: str, reason: FinishReason) -> None:
        super().__init__([text])
        self.reason = reason

    async def stream(self, request: Request) -> AsyncIterator[Delta]:
        async for delta in super().stream(request):
            yield replace(delta, finish_reason=delta.finish_reason and self.reason)
