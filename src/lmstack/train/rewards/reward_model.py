"""The score of a reward model, as a reward.

    rewards: [{name: reward-model, model: my-reward}]

The model is loaded when it is first asked, in float32, and reads conversations as in training
(`encode_exchange`). Does not cover how it is trained (`objectives.reward`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import torch

from lmstack.core import Message, UnsupportedError, allowed, check_text
from lmstack.registry import LoadedModel, Store, load
from lmstack.text import Window
from lmstack.text.exchange import encode_exchange
from lmstack.text.windows import has_segments, model_limit
from lmstack.train.data.pairs import pair_inputs, segments_of
from lmstack.train.rewards.reward import RewardFunction
from lmstack.train.rollouts.protocol import RolloutSample

__all__ = ["RewardModel"]

_PASS_TOKENS = 8192


@dataclass(frozen=True)
class RewardModel(RewardFunction):
    """``model``: of the kind reward, by name or folder. ``max_length``: tokens of a conversation
    that it reads, unless given as many as it can; what is before them is not read. Scores become
    (score - ``mean``) / ``deviation``, for those of several rewards to be of one size."""

    name: ClassVar[str] = "reward-model"

    model: str
    max_length: int | None = allowed(None, int, 2, 1 << 20)
    mean: float = allowed(0.0, float, -1e9, 1e9)
    deviation: float = allowed(1.0, float, 0, 1e9, above=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_text("model", self.model)

    @property
    def digest(self) -> str:
        """Of the model; `NotFoundError` where there is none."""
        return Store().resolve(self.model).digest

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        return self.scores([[*each.prompt, Message("assistant", each.text)] for each in samples])

    def scores(self, conversations: Sequence[Sequence[Message]]) -> list[float]:
        """Of conversations that end with an answer."""
        loaded = self._loaded
        config = loaded.module.config
        limit = model_limit(loaded.tokenizer, config.max_positions)
        limit = min(limit, self.max_length or limit)
        windows = [
            encode_exchange(messages, loaded.tokenizer, loaded.template, limit)[0]
            for messages in conversations
        ]
        segments = config.token_types > 1 and has_segments(loaded.tokenizer)
        found = [0.0] * len(windows)
        for places in _passes(windows):
            pairs = [segments_of(windows[place], segments=segments) for place in places]
            inputs: Mapping[str, Any] = pair_inputs(pairs, segments=segments)
            with torch.inference_mode():
                output = loaded.module(**inputs, output_hidden_states=False)
            for place, score in zip(places, output.logits[:, 0].tolist(), strict=True):
                found[place] = (score - self.mean) / self.deviation
        return found

    @cached_property
    def _loaded(self) -> LoadedModel:
        loaded = load(self.model, weights="float32")
        if loaded.kind != "reward":
            raise UnsupportedError(
                f"{loaded.name} is of the kind {loaded.kind} and scores no answers",
                hint="lmstack train recipes/reward.yaml makes a model that does",
                param="model",
            )
        loaded.module.eval().requires_grad_(False)
        return loaded


def _passes(windows: Sequence[Window]) -> Iterator[list[int]]:
    """Places of windows that are read together, of like length."""
    together: list[int] = []
    tokens = 0
    for place in sorted(range(len(windows)), key=lambda place: len(windows[place])):
        if together and tokens + len(windows[place]) > _PASS_TOKENS:
            yield together
            together, tokens = [], 0
        together.append(place)
        tokens += len(windows[place])
    if together:
        yield together
