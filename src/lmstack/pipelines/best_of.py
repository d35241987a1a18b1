"""Several answers to each prompt, the best of which a model is trained on.

    prompt -> n answers of a model -> a reward for each -> the best, or best and worst, as rows

Rejection sampling (Touvron et al. 2023, arXiv:2307.09288, section 3.2.3) and best-of-n distillation
where the rows train the model that drew them; with pairs, data for preference objectives. A model
that always gave the best of n would be at most log(n) - (n - 1) / n from the one that draws, in KL
divergence (Beirami et al. 2024, arXiv:2401.01879). Does not cover the rewards themselves
(`lmstack.train.rewards`), nor the command.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmstack.core import (
    ChatModel,
    Config,
    InputError,
    Message,
    Request,
    SamplingParams,
    allowed,
    complete,
)
from lmstack.train.data.formats import prompt_of
from lmstack.train.data.rows import Row
from lmstack.train.rewards import scored
from lmstack.train.rollouts.protocol import RolloutSample, WeightedReward

__all__ = ["BestOfConfig", "BestOfN", "DrawnAnswers", "rows_of"]

_AT_ONCE = 4  # prompts whose answers are drawn together


@dataclass(frozen=True)
class BestOfConfig(Config):
    """``samples``: answers drawn for each prompt. ``keep``: of these so many at most, the best
    ones that differ. ``least``: the reward below which an answer is not kept. ``pairs``: rows are
    the best and the worst answer. ``seed``: of all drawing."""

    samples: int = allowed(8, int, 2, 1024)
    keep: int = allowed(1, int, 1, 1024)
    least: float | None = allowed(None, float, -1e9, 1e9)
    pairs: bool = False
    max_tokens: int = allowed(512, int, 1, 1 << 20)
    temperature: float = allowed(1.0, float, 0, 2, above=True)
    seed: int = allowed(0, int, 0, (1 << 63) - 1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep > self.samples:
            raise InputError(
                f"keep is {self.keep}, of {self.samples} samples", hint="more samples", param="keep"
            )

    @property
    def divergence(self) -> float:
        """The most that the best of the samples is from the model, in nats."""
        return math.log(self.samples) - (self.samples - 1) / self.samples


@dataclass(frozen=True)
class DrawnAnswers:
    """What was drawn for a prompt, the ``key``-th of the data: ``answers``, their ``rewards``, and
    which of them came to an end."""

    key: str
    prompt: tuple[Message, ...]
    answers: tuple[str, ...]
    rewards: tuple[float, ...]
    ended: tuple[bool, ...]

    def to_json(self) -> dict[str, Any]:
        prompt = [{"role": each.role, "content": each.content} for each in self.prompt]
        return {
            **{"prompt": prompt, "answers": list(self.answers), "rewards": list(self.rewards)},
            "ended": list(self.ended),
        }

    @classmethod
    def from_json(cls, key: str, values: Mapping[str, Any]) -> DrawnAnswers:
        prompt = tuple(Message(each["role"], each["content"]) for each in values["prompt"])
        lists = (tuple(values[name]) for name in ("answers", "rewards", "ended"))
        return cls(key, prompt, *lists)


class BestOfN:
    """Draws answers of ``model`` and scores them by the sum of ``rewards``, those of one prompt
    at a time."""

    def __init__(
        self, model: ChatModel, rewards: Sequence[WeightedReward], config: BestOfConfig
    ) -> None:
        self._model, self._rewards, self._config = model, rewards, config
        self._scoring = asyncio.Lock()  # rewards are for one thread

    async def ask(self, rows: Sequence[tuple[str, Row]]) -> AsyncIterator[DrawnAnswers]:
        """For each key and row, as they are done."""
        gate = asyncio.Semaphore(_AT_ONCE)

        async def one(key: str, row: Row) -> DrawnAnswers:
            async with gate:
                return await self._one(key, row)

        tasks = [asyncio.create_task(one(key, row)) for key, row in rows]
        try:
            for done in asyncio.as_completed(tasks):
                yield await done
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, key: str, row: Row) -> DrawnAnswers:
        config, prompt = self._config, tuple(prompt_of(row))
        sampling = SamplingParams(
            n=config.samples,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            seed=_seed(config.seed, key),
            logprobs=0,
        )
        found = await complete(self._model, Request(prompt, sampling=sampling))
        samples = [
            RolloutSample(
                prompt,
                (),
                tuple(each.id for each in choice.logprobs),
                tuple(each.logprob or 0.0 for each in choice.logprobs),
                choice.text,
                "length" if choice.finish_reason == "length" else "stop",
                row.values,
            )
            for choice in found.choices
        ]
        async with self._scoring:
            rewards = (await asyncio.to_thread(scored, self._rewards, samples)).totals
        ended = tuple(each.finish == "stop" for each in samples)
        return DrawnAnswers(
            key, prompt, tuple(each.text for each in samples), tuple(rewards), ended
        )


def _seed(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:{key}".encode()).digest()[:7], "big")


def rows_of(asked: DrawnAnswers, config: BestOfConfig) -> Iterator[dict[str, Any]]:
    """The rows to train on; none where no answer came to its end, or is good enough, and as pairs
    none where all are equally good. An answer that was cut is never learned from."""
    ended = [i for i, whole in enumerate(asked.ended) if whole and asked.answers[i].strip()]
    order = sorted(ended, key=lambda i: -asked.rewards[i])
    if not order:
        return
    prompt, best = asked.to_json()["prompt"], asked.rewards[order[0]]
    if config.least is not None:
        order = [i for i in order if asked.rewards[i] >= config.least] or order[:0]
    if config.pairs:
        worst = min(ended, key=lambda i: asked.rewards[i])
        if order and asked.rewards[worst] < best:
            yield {
                "prompt": prompt,
                "chosen": [_turn(asked.answers[order[0]])],
                "rejected": [_turn(asked.answers[worst])],
                "margin": best - asked.rewards[worst],
                "rewards": list(asked.rewards),
            }
        return
    kept: dict[str, int] = {}
    for i in order:
        kept.setdefault(asked.answers[i].strip(), i)
    for i in list(kept.values())[: config.keep]:
        messages = [*prompt, _turn(asked.answers[i])]
        row = {"messages": messages, "reward": asked.rewards[i], "rewards": list(asked.rewards)}
        yield row


def _turn(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
