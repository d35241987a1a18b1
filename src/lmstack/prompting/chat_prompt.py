"""A prompt of several turns, ready to be asked: each turn a `Prompt`, so that what others wrote is
still told apart. Does not cover where the turns come from (`template`)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmstack.core import InputError, Message, Prompt, Request, Role, SamplingParams

__all__ = ["ChatPrompt", "PromptTurn"]


@dataclass(frozen=True)
class PromptTurn:
    """``label``: what it is for, such as ``example 2``; nobody but `explain` shows it."""

    role: Role
    prompt: Prompt
    label: str = ""

    @property
    def message(self) -> Message:
        return Message(self.role, self.prompt.render())


@dataclass(frozen=True)
class ChatPrompt:
    """``name`` and ``version``: of the prompt file that it was made from, for the audit record."""

    turns: tuple[PromptTurn, ...]
    name: str = ""
    version: str = ""

    def __post_init__(self) -> None:
        if not self.turns:
            raise InputError("a prompt has no turn", hint="give it a user's turn", param="turns")

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the roles, the spans and their trust."""
        whole = hashlib.sha256()
        for turn in self.turns:
            whole.update(f"{turn.role}:{turn.prompt.digest}\n".encode())
        return f"sha256:{whole.hexdigest()}"

    @cached_property
    def messages(self) -> tuple[Message, ...]:
        return tuple(turn.message for turn in self.turns)

    def request(self, sampling: SamplingParams | None = None, **fields: Any) -> Request:
        """To be asked of a model. ``fields``: further ones of the `Request`."""
        return Request(
            self.messages,
            sampling=sampling or SamplingParams(),
            prompt_name=self.name,
            prompt_digest=self.version or self.digest,
            **fields,
        )
