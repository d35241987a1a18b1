"""Text generation and chat: prompts or conversations to texts, many at a time in one engine.

Runs `LocalModel`, so everything that it can do (sampling, beams, stops) is an option here.
Requests of one call share the engine's batches; a seed gives each the same tokens as alone.
Does not cover tools and grammars: those are for the server's routes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from lmstack.core import (
    ChatModel,
    Completion,
    InputError,
    Message,
    Request,
    SamplingParams,
    complete,
    shown,
)
from lmstack.registry import DEFAULT_SAMPLING, LoadedModel
from lmstack.serve.local import LocalModel
from lmstack.serve.tasks.base import Item, ModelTask, O, R, text_of
from lmstack.serve.tasks.results import Generated
from lmstack.serve.threads import all_of, in_any_thread

__all__ = ["Chat", "GeneratingTask", "TextGeneration"]

# Requests handed to an engine at a time: more than it runs together, fewer than it queues.
IN_FLIGHT = 64
MAX_TOKENS = 256

Prompt = str | tuple[Message, ...]


class GeneratingTask(ModelTask[Item, O, R]):
    """A task on what a language model writes. Loads an engine for a model that has none (``model``
    has one), and stops that one when it is closed."""

    def __init__(
        self, loaded: LoadedModel, *, model: LocalModel | None = None, **options: Any
    ) -> None:
        super().__init__(loaded, **options)
        self._owns = model is None
        self._model = model or LocalModel(loaded)

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """In order. The first error ends them all."""
        return in_any_thread(lambda: asyncio.run(_all(self._model, requests)))

    def close(self) -> None:
        if self._owns:
            self._model.close()


async def _all(model: ChatModel, requests: Sequence[Request]) -> list[Completion]:
    done: list[Completion] = []
    step = max(1, IN_FLIGHT // max((request.sampling.n for request in requests), default=1))
    for start in range(0, len(requests), step):
        done += await all_of([complete(model, each) for each in requests[start : start + step]])
    return done


class TextGeneration(GeneratingTask[Prompt, SamplingParams, Generated]):
    """Inputs: prompts; for a model with a chat template also conversations, as lists of
    messages. Options: the fields of `SamplingParams`; at most 256 new tokens unless
    ``max_tokens`` says otherwise, and the model's own defaults for the rest."""

    name = "text-generation"
    limit: ClassVar[int | None] = MAX_TOKENS
    options_type = SamplingParams

    def __init__(
        self, loaded: LoadedModel, *, model: LocalModel | None = None, **options: Any
    ) -> None:
        self._stated = {"max_tokens": self.limit, **options}
        self._defaults = loaded.generation.sampling.over(DEFAULT_SAMPLING)
        super().__init__(loaded, model=model, **self._stated)

    def with_options(self, base: Any, changes: Mapping[str, Any]) -> SamplingParams:
        """From what was stated, not from ``base``: defaults that hold beside other options need
        not hold beside these."""
        stated = {**({} if base is None else self._stated), **changes}
        options = super().with_options(None, {**self._defaults.beside(stated), **stated})
        assert isinstance(options, SamplingParams)
        return options

    def is_one(self, inputs: Any) -> bool:
        conversation = isinstance(inputs, list | tuple) and all(
            isinstance(each, Message) or (isinstance(each, Mapping) and "role" in each)
            for each in inputs
        )
        return bool(inputs and conversation) or super().is_one(inputs)

    def read(self, value: Any, name: str, _: SamplingParams, /) -> Prompt:
        if isinstance(value, list | tuple):
            return tuple(_message(each, name) for each in value)
        return text_of(value, name, "text")

    def run(self, items: Sequence[Prompt], options: SamplingParams) -> list[Generated]:
        requests = [
            Request(prompt=item, sampling=options)
            if isinstance(item, str)
            else Request(messages=item, sampling=options)
            for item in items
        ]
        return [_generated(done) for done in self.complete(requests)]


class Chat(TextGeneration):
    """Inputs: what a user says, or conversations as lists of messages. An answer ends by itself
    or at the model's own limit."""

    name = "chat"
    limit = None

    def read(self, value: Any, name: str, options: SamplingParams, /) -> Prompt:
        item = super().read(value, name, options)
        return (Message("user", item),) if isinstance(item, str) else item


def _message(value: Any, name: str) -> Message:
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping) or set(value) != {"role", "content"}:
        raise InputError(
            f"{name} has the message {shown(value)}", hint="messages have a role and a content"
        )
    return Message(value["role"], value["content"])


def _generated(done: Completion) -> Generated:
    first, *others = done.choices
    return Generated(
        text=first.text,
        finish_reason=first.finish_reason,
        completion_tokens=done.usage.completion_tokens,
        others=tuple(choice.text for choice in others) or None,
    )
