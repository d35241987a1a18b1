"""A language model with a system prompt that is part of the system, as its weights are.

The prompt stands before every conversation that brings no system prompt of its own, rendered ones
included; raw prompts and the texts of likelihoods have none. Its hash is in the digest of every
answer. Not covered: prompts with variables (`lmstack.prompting`), which are asked with and not
served.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from lmstack.core import Delta, InputError, Message, Request
from lmstack.serve.local import LocalModel

__all__ = ["PromptedModel", "prompt_part"]


def prompt_part(prompt: str) -> str:
    """What the digest of a model with this prompt says of it."""
    return f"prompt.{hashlib.sha256(prompt.encode()).hexdigest()}"


class PromptedModel(LocalModel):
    """``base`` with the system prompt ``prompt``, in the engine of ``base``; closing it closes
    that."""

    def __init__(self, base: LocalModel, prompt: str) -> None:
        if not prompt.strip():
            raise InputError("the system prompt is empty", hint="leave it out", param="prompt")
        vars(self).update(vars(base))
        self._base, self._prompt = base, prompt
        self._info = dataclasses.replace(base.info, digest=self._digest())

    def _digest(self) -> str | None:
        return f"{self._base._digest()}+{prompt_part(self._prompt)}"

    def stream(self, request: Request) -> AsyncIterator[Delta]:
        """As `LocalModel.stream`, of the conversation with the prompt before it."""
        messages = self._prompted(request.messages)
        return super().stream(dataclasses.replace(request, messages=messages))

    def render_chat(self, messages: Sequence[Message]) -> str:
        """As `LocalModel.render_chat`, with the prompt before them."""
        return super().render_chat(self._prompted(messages))

    def _prompted(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        if not messages or messages[0].role == "system":
            return tuple(messages)
        return (Message("system", self._prompt), *messages)

    def update_weights(self, weights: Mapping[str, Any]) -> None:
        """Replace those of the base."""
        self._base.update_weights(weights)

    def close(self) -> None:
        """Close the base."""
        self._base.close()
