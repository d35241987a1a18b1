"""The seams of online training: who draws samples, and who rewards them.

    Prompt -> Sampler -> Sample -> Reward -> one number a sample

`train` knows these protocols alone. The engine that serves is a `RolloutSampler` in `pipelines`,
and so are engines in other processes. Not covered: what becomes of rewards (`advantages`, the
objectives).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from lmstack.core import Config, Grammar, InputError, Message, allowed, shown
from lmstack.model import Transformer
from lmstack.registry import LoadedModel

__all__ = [
    "Drawing",
    "Reward",
    "RolloutConfig",
    "RolloutPrompt",
    "RolloutSample",
    "RolloutSampler",
    "Services",
    "WeightedReward",
]


@dataclass(frozen=True)
class RolloutPrompt:
    """``messages`` and their token ``ids``, up to where the answer begins. ``row``: the data row,
    with the columns that rewards read (``answer``, ``schema``, ``tests``, ``sources``).
    ``grammar``: what answers are masked to, if anything."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    row: Mapping[str, Any] = field(default_factory=dict)
    grammar: Grammar | None = None


@dataclass(frozen=True)
class RolloutSample:
    """An answer that was drawn.

    ``prompt``, ``prompt_ids``, ``row``: see `RolloutPrompt`. ``ids`` (n,): tokens of the answer
    with its end token, if it came to one. ``logprobs`` (n,): natural logarithms, of the
    distribution that each was drawn from, temperature included, before truncation and grammar.
    ``text``: the answer without its end. ``finish``: ``length`` where it was cut."""

    prompt: tuple[Message, ...]
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish: Literal["stop", "length"]
    row: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class RolloutConfig(Config):
    """``weights``: the form in which the engine holds the policy: ``float32``, ``bfloat16`` or
    ``int8``; None: that of the recipe's precision. ``ahead``: 1 draws the answers of the next step
    while this one is learned from, with weights that are one step old. ``threads``: draw them in
    a process of its own, with so many. ``ray``: in ``copies`` processes of a Ray cluster, ``local``
    or its address, each with so many threads, or one."""

    weights: str | None = allowed(None, str, also=("float32", "bfloat16", "int8"))
    ahead: int = allowed(0, int, 0, 1)
    threads: int | None = allowed(None, int, 1, 1024)
    ray: str | None = None
    copies: int = allowed(1, int, 1, 4096)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ray is not None and (not isinstance(self.ray, str) or not self.ray):
            raise InputError(
                f"ray is {shown(self.ray)}, not local or the address of a cluster",
                hint="ray: local, or ray: ray://head:10001",
                param="ray",
            )


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn. ``max_tokens``: of an answer at most. ``stop``: strings that end one
    and are not part of its text."""

    max_tokens: int
    temperature: float = 1.0
    stop: tuple[str, ...] = ()


class RolloutSampler(Protocol):
    """Draws answers. The same weights, prompts and seeds give the same samples, bit for bit."""

    def update(self, module: Transformer) -> None:
        """Answers are drawn with the weights of ``module`` from now on, its adapter included.
        ``module`` is read, not kept."""
        ...

    def sample(
        self, prompts: Sequence[RolloutPrompt], drawing: Drawing, seeds: Sequence[Sequence[int]]
    ) -> list[list[RolloutSample]]:
        """For each prompt a sample a seed (64 bits), in their order."""
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class Reward(Protocol):
    """Scores answers. ``name``: as in a recipe and in the metrics."""

    @property
    def name(self) -> str: ...

    def score(self, samples: Sequence[RolloutSample]) -> list[float]:
        """A finite number for each sample, higher is better; a function of the sample alone."""
        ...


@dataclass(frozen=True)
class WeightedReward:
    """``weight``: of its scores in the sum that is learned from."""

    reward: Reward
    weight: float = 1.0


class Services(Protocol):
    """What an online run is given from outside `train`."""

    def sampler(self, base: LoadedModel, config: RolloutConfig) -> RolloutSampler:
        """Draws answers of ``base``, held as ``config.weights`` (not None)."""
        ...

    def reward(self, name: str, settings: Mapping[str, Any]) -> Reward:
        """The reward of a recipe; `InputError` where there is none of that name."""
        ...
