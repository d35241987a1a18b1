"""Answers drawn from a chat model, several a prompt, many prompts at once.

Every answer has a seed of its own that follows from the run's seed, the prompt and its number, so
the same model gives the same answers whatever else is drawn beside them. Not covered: what is
computed from them (`comparison`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lmstack.core import ChatModel, Choice, Config, Message, Request, SamplingParams, complete
from lmstack.core.config import allowed
from lmstack.evals.answers import ModelAnswer

__all__ = ["DrawingConfig", "draw"]

_AT_ONCE = 32


@dataclass(frozen=True)
class DrawingConfig(Config):
    """``samples``: answers to each prompt. ``max_tokens``: of an answer. ``temperature``: at 1 the
    divergence is that of the models themselves; of other values that of what is drawn."""

    samples: int = allowed(2, int, 1, 16)
    max_tokens: int = allowed(128, int, 1, 1 << 20)
    temperature: float = allowed(1.0, float, 0, 2)
    seed: int = allowed(0, int, 0, (1 << 63) - 1)


async def draw(
    model: ChatModel,
    prompts: Sequence[Sequence[Message]],
    drawing: DrawingConfig,
    told: Callable[[int], None] = lambda _done: None,
) -> list[tuple[ModelAnswer, ...]]:
    """The answers to each of ``prompts``. ``told``: how many prompts are done."""
    limit, done = asyncio.Semaphore(_AT_ONCE), 0

    async def answers(prompt: Sequence[Message]) -> tuple[ModelAnswer, ...]:
        nonlocal done
        async with limit:
            found = [await _one(model, prompt, drawing, n) for n in range(drawing.samples)]
        done += 1
        told(done)
        return tuple(found)

    return list(await asyncio.gather(*map(answers, prompts)))


async def _one(
    model: ChatModel, prompt: Sequence[Message], drawing: DrawingConfig, number: int
) -> ModelAnswer:
    sampling = SamplingParams(
        max_tokens=drawing.max_tokens,
        temperature=drawing.temperature,
        seed=_seed(prompt, drawing.seed, number),
        logprobs=0,
    )
    request = Request(messages=tuple(prompt), sampling=sampling)
    found = await complete(model, request)
    return _answer(found.choices[0], found.usage.completion_tokens)


def _answer(choice: Choice, tokens: int) -> ModelAnswer:
    ids = tuple(each.id for each in choice.logprobs)
    known = ids if ids and min(ids) >= 0 else ()
    finish: Literal["stop", "length"] = "length" if choice.finish_reason == "length" else "stop"
    return replace(ModelAnswer(choice.text, tokens, finish), ids=known)


def _seed(prompt: Sequence[Message], seed: int, number: int) -> int:
    text = "\0".join([str(seed), str(number), *(f"{m.role}\0{m.content}" for m in prompt)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
