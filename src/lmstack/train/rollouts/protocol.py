"""The seams of online training: who draws samples, and who rewards them.

    Prompt -> Sampler -> Sample -> Reward -> one number a sample

`train` knows these protocols alone. The engine that serves is a `Sampler` in `app/wiring`, and so
are engines in other processes. Not covered: what becomes of rewards (`advantages`, the objectives).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lmstack.core import Grammar, Message
from lmstack.model import Transformer
from lmstack.registry import LoadedModel

__all__ = ["Drawing", "Prompt", "Reward", "Sample", "Sampler", "Services", "WeightedReward"]


@dataclass(frozen=True)
class Prompt:
    """``messages`` and their token ``ids``, up to where the answer begins. ``row``: the data row,
    with the columns that rewards read (``answer``, ``schema``, ``tests``, ``sources``).
    ``grammar``: what answers are masked to, if anything."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    row: Mapping[str, Any] = field(default_factory=dict)
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Sample:
    """An answer that was drawn.

    ``prompt``, ``prompt_ids``, ``row``: see `Prompt`. ``ids`` (n,): tokens of the answer with its
    end token, if it came to one. ``logprobs`` (n,): natural logarithms, of the distribution that
    each was drawn from, temperature included, before truncation and grammar. ``text``: the answer
    without its end. ``finish``: ``length`` where it was cut."""

    prompt: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish: Literal["stop", "length"]
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn. ``max_tokens``: of an answer at most. ``stop``: strings that end one
    and are not part of its text."""

    max_tokens: int
    temperature: float = 1.0
    stop: tuple[str, ...] = ()


class Sampler(Protocol):
    """Draws answers. The same weights, prompts and seeds give the same samples, bit for bit."""

    def update(self, module: Transformer) -> None:
        """Answers are drawn with the weights of ``module`` from now on, its adapter included.
        ``module`` is read, not kept."""
        ...

    def sample(
        self, prompts: Sequence[Prompt], drawing: Drawing, seeds: Sequence[Sequence[int]]
    ) -> list[list[Sample]]:
        """For each prompt a sample a seed (64 bits), in their order."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Reward(Protocol):
    """Scores answers. ``name``: as in a recipe and in the metrics."""

    @property
    def name(self) -> str: ...

    def score(self, samples: Sequence[Sample]) -> list[float]:
        """A finite number for each sample, higher is better; a function of the sample alone."""
        ...


@dataclass(frozen=True)
class WeightedReward:
    """``weight``: of its scores in the sum that is learned from."""

    reward: Reward
    weight: float = 1.0


class Services(Protocol):
    """What an online run is given from outside `train`."""

    def sampler(self, base: LoadedModel, weights: str, threads: int | None) -> Sampler:
        """Draws answers of ``base`` held as ``weights``; by so many ``threads`` of a process of its
        own, or in this one where it is None."""
        ...

    def reward(self, name: str, settings: Mapping[str, Any]) -> Reward:
        """The reward of a recipe; `InputError` where there is none of that name."""
        ...
