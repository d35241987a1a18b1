"""Models whose log-likelihoods and replies are known, and samples to ask them."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence

from lmstack.core import (
    ChatModel,
    ContextLengthError,
    Likelihood,
    ModelInfo,
    Request,
    ScriptedModel,
)
from lmstack.evals.task import ModelOutput, Sample, Subject, Task


def logprob_of(context: str, continuation: str) -> float:
    """Between -20 and 0, by a hash of both."""
    found = hashlib.sha256(f"{context}\0{continuation}".encode()).digest()
    return -20 * int.from_bytes(found[:6], "big") / 2**48


class HashedLikelihoods:
    """Gives `logprob_of`; a context of more than ``limit`` characters does not fit."""

    info = ModelInfo("hashed", "sha256:" + "1" * 64)

    def __init__(self, limit: int = 1_000_000) -> None:
        self.limit = limit
        self.asked: list[tuple[str, str]] = []

    async def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        self.asked += pairs
        if any(len(context) > self.limit for context, _ in pairs):
            raise ContextLengthError(f"more than {self.limit} characters")
        return [Likelihood(logprob_of(*pair), len(pair[1].split()), False) for pair in pairs]


def likelihood_subject(model: HashedLikelihoods | None = None) -> Subject:
    return Subject("hashed", "sha256:1", likelihood=model or HashedLikelihoods())


def chat_subject(model: ChatModel) -> Subject:
    return Subject("scripted", "sha256:0", chat=model)


def replying(*replies: str | Callable[[Request], str]) -> ScriptedModel:
    return ScriptedModel(list(replies))


def output_of(task: Task, subject: Subject, place: int = 0) -> ModelOutput:
    return asyncio.run(task.solver(task.dataset.samples[place], subject))


def scores_of(task: Task, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
    return asyncio.run(task.scorer(sample, output))


def scores_for(task: Task, reply: str, place: int = 0) -> Mapping[str, float]:
    """Of a model that replies ``reply``, after the solver has cut it."""
    output = output_of(task, chat_subject(replying(reply)), place)
    return scores_of(task, task.dataset.samples[place], output)


def prompts_of(task: Task) -> list[str]:
    """What a raw prompt of each sample is."""
    return [task.solver.prompt.text(sample) for sample in task.dataset.samples]  # type: ignore[attr-defined]
