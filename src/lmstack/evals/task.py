"""An evaluation task: a data set, a solver that asks, a scorer that judges, metrics that sum up.

    samples --solver(subject)--> outputs --scorer--> a row of numbers for each --metric--> a figure

A data set is named by the hash of all that is in it, so that a score never outlives its data. Rows
are kept for each sample, so that two models can be compared on the same ones. Not covered: where
data come from (`benchmarks`, `task_file`), running a task (`run`), figures with intervals and
comparisons (`statistics`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from lmstack.core import ChatModel, InputError, Likelihood, LikelihoodModel, Message
from lmstack.evals.statistics import mean_of

__all__ = [
    "AgentSystem",
    "Dataset",
    "IndexSystem",
    "Metric",
    "ModelOutput",
    "Sample",
    "Scorer",
    "Solver",
    "Subject",
    "Task",
]

Floats = npt.NDArray[np.float64]


class IndexSystem(Protocol):
    """Documents that answer questions, with all that takes: search, models, settings."""

    async def answer(self, turns: Sequence[Message]) -> ModelOutput:
        """To the last turn. The facts are those of `lmstack.evals.metrics.cited_facts`, without
        what is known of the right answer."""
        ...

    async def spans(self, source: str, pattern: str) -> list[tuple[int, int]]:
        """Where the regular expression matches in the text of ``source``; nowhere where there is
        no such document."""
        ...


class AgentSystem(Protocol):
    """A model with tools, and the rights to use them."""

    async def run(self, task: str, tools: Sequence[str] | None) -> ModelOutput:
        """``tools``: those that it may call for this task; None: all that it has. The facts are
        those of `lmstack.evals.metrics.agent_run`."""
        ...


@dataclass(frozen=True)
class Subject:
    """What is evaluated. ``digest``: of everything that decides its answers (weights; of a system
    with an index or a prompt, theirs too): a cached output is one of this digest. ``chat``,
    ``likelihood``, ``index`` and ``agent``: its faces, as far as it has them."""

    name: str
    digest: str
    chat: ChatModel | None = None
    likelihood: LikelihoodModel | None = None
    index: IndexSystem | None = None
    agent: AgentSystem | None = None

    def needed_chat(self) -> ChatModel:
        if self.chat is None:
            raise InputError(
                f"{self.name} cannot write text",
                hint="evaluate a language model, or choose a task that scores likelihoods",
                param="model",
            )
        return self.chat

    def needed_likelihood(self) -> LikelihoodModel:
        if self.likelihood is None:
            raise InputError(
                f"{self.name} does not say how likely a text is",
                hint="evaluate a model that lmstack runs itself, or choose a task that generates",
                param="model",
            )
        return self.likelihood

    def needed_index(self) -> IndexSystem:
        if self.index is None:
            raise InputError(
                f"{self.name} has no documents, and the task asks about some",
                hint="name an index: --index FOLDER, or index: {docs: FOLDER} in the task file",
                param="model",
            )
        return self.index

    def needed_agent(self) -> AgentSystem:
        if self.agent is None:
            raise InputError(
                f"{self.name} is no agent, and the task is for one",
                hint="say what it may use in the task file: agent: {python: true}",
                param="model",
            )
        return self.agent


@dataclass(frozen=True)
class ModelOutput:
    """What a solver got from a subject for one sample. ``likelihoods``: of the choices, in their
    order. ``facts``: JSON that the scorer needs besides (citations, steps, other drafts)."""

    text: str = ""
    likelihoods: tuple[Likelihood, ...] = ()
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    finish_reason: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)


class Solver(Protocol):
    """How a sample is put to a subject."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """JSON that decides every prompt and how it is sampled (templates, shots, parameters,
        versions): part of the key under which an output is cached."""
        ...

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput: ...


class Scorer(Protocol):
    """What an output is worth."""

    @property
    def protocol(self) -> Mapping[str, Any]:
        """JSON that decides every score."""
        ...

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        """Numbers by name, the same names for each sample; NaN where one does not apply."""
        ...


@dataclass(frozen=True)
class Metric:
    """A figure over samples: ``statistic`` of (..., N, K), the columns being the scores named by
    ``columns``. A figure of a corpus (BLEU, perplexity) sums what its columns count. Samples for
    which a column is NaN are left out."""

    name: str
    columns: tuple[str, ...]
    statistic: Callable[[Floats], Floats] = mean_of
    better: Literal["higher", "lower"] = "higher"
    is_share: bool = True  # of samples, between 0 and 1: an exact test is possible
    decimals: int = 3


@dataclass(frozen=True)
class Task:
    """``metrics``: the first is the one that a gate looks at. ``version``: raised with each change
    that moves scores. ``about``: a sentence for people, with the source of the protocol."""

    name: str
    dataset: Dataset
    solver: Solver
    scorer: Scorer
    metrics: tuple[Metric, ...]
    version: int = 1
    about: str = ""

    @property
    def protocol(self) -> dict[str, Any]:
        """All that decides a score but the subject and the data."""
        return {
            "task": self.name,
            "version": self.version,
            "solver": dict(self.solver.protocol),
            "scorer": dict(self.scorer.protocol),
        }


@dataclass(frozen=True)
class Sample:
    """One item. ``input``: text or a conversation. ``targets``: answers that count as right.
    ``choices``: those of multiple choice, ``gold`` the places of the right ones among them.
    ``cluster``: samples that share one (a passage, a subject's paragraph) are not independent;
    "" stands alone. ``metadata``: JSON, for solvers and scorers that know it."""

    id: str
    input: str | tuple[Message, ...]
    targets: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    cluster: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if not self.id:
            raise InputError("a sample has no id", hint="give each sample its own id", param="id")
        if any(not 0 <= place < len(self.choices) for place in self.gold):
            raise InputError(
                f"sample {self.id} has {len(self.choices)} choices, and gold {list(self.gold)}",
                hint="gold holds the places of right choices, counted from 0",
                param="gold",
            )

    @property
    def text(self) -> str:
        """The input as text: of a conversation, its last turn."""
        return self.input if isinstance(self.input, str) else self.input[-1].content

    def to_json(self) -> dict[str, Any]:
        asked = self.input
        return {
            "id": self.id,
            "input": asked
            if isinstance(asked, str)
            else [{"role": m.role, "content": m.content} for m in asked],
            "targets": list(self.targets),
            "choices": list(self.choices),
            "gold": list(self.gold),
            "cluster": self.cluster,
            "metadata": dict(self.metadata),
        }


@dataclass(frozen=True)
class Dataset:
    """``source``: where it comes from, as a person would cite it (a package with its version, a
    file, "generated by lmstack, seed 0")."""

    name: str
    samples: tuple[Sample, ...]
    source: str

    def __post_init__(self) -> None:
        if not self.samples:
            raise InputError(f"the data set {self.name} has no samples", param="dataset")
        ids = [sample.id for sample in self.samples]
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise InputError(
                f"two samples of {self.name} have the id {twice}",
                hint="give each sample its own id",
                param="id",
            )

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of all samples in their order."""
        found = hashlib.sha256()
        for sample in self.samples:
            row = json.dumps(sample.to_json(), sort_keys=True, ensure_ascii=False)
            found.update(row.encode() + b"\n")
        return f"sha256:{found.hexdigest()}"
