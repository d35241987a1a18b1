"""What objectives share that learn from their own samples: prompts, how answers are drawn, rewards.

A step draws ``samples`` answers to each of its prompts, has them rewarded, and makes ``epochs`` x
``minibatches`` updates of them. `lmstack.train.rollouts.source` goes through it; an objective says
what must be known of the samples, how good each token was, and the loss.

Reads prompts: a column ``prompt``, a text or messages. All columns of a row are for the rewards.
"""

from __future__ import annotations

import abc
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from torch import Tensor

from lmstack.core import Grammar, InputError, Message, allowed, check_range, shown
from lmstack.model import ForwardContext, Transformer
from lmstack.model.config import Head
from lmstack.registry import LoadedModel
from lmstack.registry.card import Kind
from lmstack.train.cross_entropy import chunked_log_probs, wide
from lmstack.train.data.examples import IGNORED, Batch, Example
from lmstack.train.data.formats import prompt_of
from lmstack.train.data.rows import Row
from lmstack.train.metric import TrainingMetric, falling, rising, watched
from lmstack.train.objectives.objective import AllRows, Objective, Reading, read_of
from lmstack.train.rewards import REWARDS, RewardFunction, reward_named
from lmstack.train.rewards.own import OwnReward
from lmstack.train.rewards.weighted import part_names
from lmstack.train.rollouts.experience import Rollout
from lmstack.train.rollouts.protocol import Drawing, RolloutConfig, RolloutPrompt

__all__ = ["OnlineObjective", "RewardSetting", "reward_setting"]


@dataclass(frozen=True)
class RewardSetting:
    """One of a recipe's ``rewards``: its ``name``, its ``weight`` in the sum, and its settings."""

    name: str
    weight: float
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class OnlineObjective(Objective):
    """``rewards``: names, or mappings of ``name``, ``weight`` and settings; with a ``file`` they
    need no name. ``samples``: answers to each prompt, of ``max_tokens`` at most, or to one of the
    strings ``stop``. ``masked``: answers are masked to the JSON Schema in the row's ``schema``.
    ``rollouts``: see `RolloutConfig`."""

    reads: ClassVar[tuple[str, ...]] = ("prompt",)
    kind: ClassVar[Kind | None] = "generate"
    heads: ClassVar[tuple[Head, ...]] = ("lm",)
    metric: ClassVar[str] = "reward"
    aligns: ClassVar[bool] = True

    rewards: Any
    samples: int = allowed(8, int, 1, 1 << 16)
    max_tokens: int = allowed(256, int, 1, 1 << 20)
    temperature: float = allowed(1.0, float, 0.01, 2)
    stop: tuple[str, ...] = allowed((), str, 0, 16)
    masked: bool = allowed(False, bool)
    epochs: int = allowed(1, int, 1, 1000)
    minibatches: int = allowed(1, int, 1, 1 << 16)
    rollouts: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.reward_settings:
            raise InputError(
                "rewards is empty", hint="rewards: [{name: arithmetic}]", param="rewards"
            )
        _ = self.rollout_config, self._known_rewards

    @property
    def reward_settings(self) -> Sequence[RewardSetting]:
        given = self.rewards
        if isinstance(given, str | Mapping) or not isinstance(given, Sequence):
            raise InputError(
                f"rewards is {shown(given)}, not a list of names or settings",
                hint="rewards: [{name: arithmetic}, {name: json-schema, weight: 0.5}]",
                param="rewards",
            )
        return [reward_setting(each) for each in given]

    @cached_property
    def _known_rewards(self) -> Sequence[RewardFunction]:
        """Those of `lmstack.train.rewards`, to check rows; others are the services' own."""
        given = [each for each in self.reward_settings if each.name in REWARDS]
        return [reward_named(each.name, each.settings) for each in given]

    @property
    def rollout_config(self) -> RolloutConfig:
        try:
            return RolloutConfig.from_mapping(self.rollouts or {})
        except InputError as error:
            raise InputError(
                f"rollouts: {error.message}", hint=error.hint, param=error.param
            ) from (error)

    @property
    def drawing(self) -> Drawing:
        return Drawing(self.max_tokens, self.temperature, self.stop)

    @property
    def updates(self) -> int:
        """Steps of the optimizer that a step makes."""
        return self.epochs * self.minibatches

    def metrics(self) -> Sequence[TrainingMetric]:
        """Of a reward that is paid for by a negative weight less is better."""
        settings = self.reward_settings
        names = part_names([_shown_name(each) for each in settings])
        parts = zip(names, settings, strict=True)
        return (
            *rising("reward"),
            *(TrainingMetric(f"reward_{name}", each.weight >= 0) for name, each in parts),
            *falling("cut"),
            *watched("answer_tokens"),
            *watched("loss", "prompts", "reward_spread", "flat_groups", "updates", stage="step"),
        )

    # -- data ----------------------------------------------------------------------------------

    def fitted(self, base: LoadedModel, rows: AllRows) -> Self:
        for reward in self._known_rewards:
            reward.ready()
        return super().fitted(base, rows)

    def encode(self, row: Row, reading: Reading) -> Iterable[Example]:
        """The prompt's ids, and as its labels the row as JSON in UTF-8, for the rewards."""
        ids = _prompt_ids(prompt_of(row), reading)
        most = reading.max_length - self.max_tokens
        if len(ids) > most:
            raise InputError(
                f"the prompt has {len(ids)} tokens, and {max(most, 0)} are left of max_length"
                f" {reading.max_length} for prompts before answers of {self.max_tokens}",
                hint="raise max_length, or lower objective.max_tokens",
            )
        if self.masked:
            _schema(row.values)
        for reward in self._known_rewards:
            reward.check_row(row.values)
        text = json.dumps(dict(row.values), ensure_ascii=False, default=str)
        yield Example((ids,), np.frombuffer(text.encode(), np.uint8).astype(np.int32))

    def prompt(self, example: Example) -> RolloutPrompt:
        """What `encode` made, as a sampler takes it."""
        assert example.labels is not None
        values = json.loads(example.labels.astype(np.uint8).tobytes())
        (ids,) = example.sequences
        return RolloutPrompt(
            tuple(prompt_of(Row(values, "a prompt"))),
            tuple(ids.tolist()),
            values,
            _schema(values) if self.masked else None,
        )

    def collate(self, examples: Sequence[Example], reading: Reading) -> Batch:
        del examples, reading
        raise AssertionError("batches are made of samples, not of prompts")

    # -- learning ------------------------------------------------------------------------------

    def learned(self) -> dict[str, float]:
        """What the objective itself learns in a run, as it begins; kept in checkpoints."""
        return {}

    @property
    def needs_reference(self) -> bool:
        """Whether tokens need ``reference``: their log-probabilities under the model that the run
        began with."""
        return False

    def log_probs(self, model: Transformer, batch: Batch, context: ForwardContext) -> Tensor:
        """Of each token (M,) of the answers, at the temperature that they were drawn at."""

        def readout(hidden: Tensor) -> Tensor:
            places = (batch.labels != IGNORED).nonzero().flatten()
            return chunked_log_probs(
                hidden[places],
                batch.labels[places],
                lambda states: self.scaled(model.logits(states, context)),
                model.output_parameters(),
            )

        return read_of(model, batch, context, readout)

    def scaled(self, logits: Tensor) -> Tensor:
        """``logits`` at the temperature that answers are drawn at."""
        return logits if self.temperature == 1 else wide(logits) / self.temperature

    def measured(
        self, model: Transformer, batch: Batch, context: ForwardContext
    ) -> Mapping[str, Any]:
        """What must be known of each token (M,) of ``batch`` before the first update, from the
        policy that is about to be changed; computed without gradients. Empty: nothing."""
        del model, batch, context
        return {}

    @property
    def measures(self) -> bool:
        """Whether `measured` gives anything: it costs a pass over the samples."""
        return False

    @abc.abstractmethod
    def judged(
        self, rollouts: Sequence[Rollout], learned: Mapping[str, float]
    ) -> Sequence[Rollout]:
        """``rollouts`` of a step with what the loss must know of each token: how good it was. Some
        may be left out. ``learned``: see `learned`."""

    def teaches(self, rollout: Rollout) -> bool:
        """Whether the loss of ``rollout``, which was judged, has a gradient."""
        del rollout
        return True

    @abc.abstractmethod
    def weight(self, rollouts: Sequence[Rollout]) -> float:
        """What the sum of the losses of ``rollouts`` is divided by: `Batch.weight`."""

    def adapted(
        self, learned: Mapping[str, float], values: Mapping[str, float], samples: int
    ) -> dict[str, float]:
        """``learned`` after a step over ``samples`` answers that gave these metrics."""
        del values, samples
        return dict(learned)


def _prompt_ids(messages: Sequence[Message], reading: Reading) -> Any:
    if reading.template is not None:
        return np.array(reading.template.encode(messages, reading.tokenizer), np.int32)
    if any(message.role != "user" for message in messages):
        raise InputError(
            "the model has no chat template for these messages",
            hint="prompt: a text, or give the base a template",
        )
    text = "\n".join(message.content for message in messages)
    return np.array(reading.tokenizer.encode(text, special=False), np.int32)


def _schema(values: Mapping[str, Any]) -> Grammar:
    """The JSON Schema in the column ``schema``, an object or its text."""
    found = values.get("schema")
    if isinstance(found, str):
        return Grammar("json_schema", found)
    if not isinstance(found, Mapping):
        raise InputError(
            f"schema is {shown(found)}, not a JSON Schema",
            hint="a column schema, or objective.masked=false",
            param="schema",
        )
    return Grammar.json_schema(found)


def _shown_name(setting: RewardSetting) -> str:
    """What its scores are called: a reward of one's own is called by its function."""
    known = setting.name in REWARDS
    return reward_named(setting.name, setting.settings).name if known else setting.name


def reward_setting(given: Any) -> RewardSetting:
    """One of a recipe's ``rewards``, a name or a mapping; `InputError` where it is neither."""
    values: Any = {"name": given} if isinstance(given, str) else given
    if isinstance(values, Mapping) and "file" in values:
        values = {"name": OwnReward.name, **values}
    if not isinstance(values, Mapping) or not isinstance(values.get("name"), str):
        raise InputError(
            f"a reward is {shown(given)}, not a name, or a name with settings",
            hint="rewards: [{name: arithmetic}]",
            param="rewards",
        )
    weight = values.get("weight", 1.0)
    check_range("rewards.weight", weight, -1e6, 1e6)
    settings = {key: value for key, value in values.items() if key not in ("name", "weight")}
    return RewardSetting(values["name"], float(weight), settings)
