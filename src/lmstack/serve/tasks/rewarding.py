"""Reward: how good an answer is, by a model that learned it from preferences or ratings.

Scores of answers to one prompt can be compared with each other; what a score means beyond that is
the model's choice. Read as in training (`encode_exchange`), and for a decoder as by transformers
with ``apply_chat_template``. Does not cover verifiable rewards (`lmstack.train.rewards`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from lmstack.core import Config, InputError, Message, UnsupportedError, allowed, shown
from lmstack.registry import LoadedModel
from lmstack.serve.tasks.base import EncoderTask, text_of
from lmstack.serve.tasks.results import RewardScore
from lmstack.text import Window
from lmstack.text.exchange import encode_exchange

__all__ = ["RewardOptions", "RewardScoring"]

Floats = npt.NDArray[np.float32]
Messages = tuple[Message, ...]


@dataclass(frozen=True)
class RewardOptions(Config):
    """``prompt``: of answers that come without one. ``truncate``: cut the beginning of a
    conversation that is too long instead of an error. ``max_length``: tokens that are not too
    long, if fewer than the model can see: as many as it was trained on."""

    prompt: str = ""
    truncate: bool = False
    max_length: int | None = allowed(None, int, 2, 1 << 20)


class RewardScoring(EncoderTask[Messages, RewardOptions, RewardScore]):
    """Inputs: answers with the option ``prompt``; or mappings with ``prompt`` and ``answer``, or
    with ``messages``, the last of which is the assistant's."""

    name = "reward"
    options_type = RewardOptions

    def __init__(self, loaded: LoadedModel, **options: Any) -> None:
        super().__init__(loaded, **options)
        if loaded.module.config.causal and loaded.template is None:
            raise UnsupportedError(
                f"{loaded.name} has no chat template, and answers are read through one",
                hint="put its chat_template.jinja into the model's folder",
                param="model",
            )

    def read(self, value: Any, name: str, options: RewardOptions, /) -> Messages:
        if isinstance(value, Mapping) and "messages" in value:
            if len(value) > 1:
                raise InputError(
                    f"{name} has {', '.join(map(str, value))}", hint="messages alone", param=name
                )
            return _messages(value["messages"], name)
        prompt, answer = options.prompt, value
        if isinstance(value, Mapping):
            answer = text_of(value, name, "answer", "prompt")
            prompt = value.get("prompt", prompt)
        prompt = text_of(prompt, f"the prompt of {name}")
        if not prompt.strip():
            raise InputError(
                f"{name} comes without a prompt", hint="set the option prompt", param="prompt"
            )
        return Message("user", prompt), Message("assistant", text_of(answer, name))

    def run(self, items: Sequence[Messages], options: RewardOptions) -> list[RewardScore]:
        windows = [self._window(messages, options) for messages in items]
        return [RewardScore(float(scores[0])) for scores in self.encoder.logits(windows)]

    def _window(self, messages: Messages, options: RewardOptions) -> Window:
        loaded = self.loaded
        limit = min(self.encoder.limit, options.max_length or self.encoder.limit)
        window, cut = encode_exchange(messages, loaded.tokenizer, loaded.template, limit)
        if cut and not options.truncate:
            raise InputError(
                f"the conversation has {len(window) + cut} tokens, read are {limit}",
                hint="set the option truncate, or shorten it",
                param="truncate",
            )
        return window


def _messages(value: Any, name: str) -> Messages:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        raise InputError(f"messages of {name} are {shown(value)}, not a list", param=name)
    found = []
    for each in value:
        if isinstance(each, Message):
            found.append(each)
        elif isinstance(each, Mapping) and set(each) == {"role", "content"}:
            found.append(Message(each["role"], each["content"]))
        else:
            raise InputError(
                f"{name} has the message {shown(each)}", hint="it needs a role and a content"
            )
    return tuple(found)
