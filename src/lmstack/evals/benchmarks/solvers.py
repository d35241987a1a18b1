"""How a benchmark asks: likelihoods of choices, or text that is generated, and the letter that a
model names in it, as simple-evals reads it.

Both take their prompts from a `FewShot` and leave out shots, from the last on, where a prompt is
longer than the model's window. Texts are asked as raw prompts, as benchmarks of base models are;
``chat`` sends them through the model's chat template as lm-evaluation-harness does with
``--apply_chat_template``: the header is the system's turn, and shots are part of the user's, or
turns of their own (``shots_as_turns``, its ``--fewshot_as_multiturn``). It is in the solver's
protocol, so that no score of one way is taken for one of another. Tasks that are chats by their own
protocol stay what they are. Not covered: other scorers (`lmstack.evals.metrics`), and the
conversation itself (`lmstack.evals.conversation`).
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from lmstack.core import (
    Completion,
    ContextLengthError,
    InputError,
    Request,
    SamplingParams,
)
from lmstack.evals.benchmarks.prompts import LETTERS, FewShot
from lmstack.evals.conversation import completed, rendered
from lmstack.evals.likelihood_solvers import MultipleChoice, TargetLikelihood
from lmstack.evals.metrics import calibration_metrics
from lmstack.evals.solvers import Generate, SelfConsistency, sampling_protocol
from lmstack.evals.task import Metric, ModelOutput, Sample, Solver, Subject, Task

__all__ = [
    "ACCURACY",
    "CALIBRATION",
    "PARSED",
    "GenerationSolver",
    "LetterScorer",
    "LikelihoodSolver",
    "cut_at",
    "with_chat",
]

ACCURACY = Metric("acc", ("acc",))
PARSED = Metric("parsed", ("parsed",))
(CALIBRATION,) = (metric for metric in calibration_metrics() if metric.name == "ece")


@dataclass(frozen=True)
class LikelihoodSolver:
    """The log-likelihood of each choice after the prompt. ``continuation``: a template of what is
    scored, with ``letter`` and ``choice``; lm-evaluation-harness puts a space before it, but for
    ``chat``, where the template has ended the question."""

    prompt: FewShot
    continuation: str = " {choice}"
    chat: bool = False
    shots_as_turns: bool = False

    @cached_property
    def protocol(self) -> dict[str, Any]:
        return {
            "asks": "likelihoods",
            "prompt": self.prompt.protocol,
            "continuation": self._continuation,
            "chat": self.chat,
            "shots_as_turns": self.shots_as_turns,
        }

    @property
    def _continuation(self) -> str:
        return self.continuation.removeprefix(" ") if self.chat else self.continuation

    def continuations(self, sample: Sample) -> list[str]:
        template = self._continuation
        return [
            template.format(letter=LETTERS[place], choice=choice)
            for place, choice in enumerate(sample.choices)
        ]

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        if not sample.choices:
            raise InputError(f"sample {sample.id} has no choices to score", param="choices")
        model, began = subject.needed_likelihood(), time.monotonic()
        wanted = self.continuations(sample)
        for count in _counts(self.prompt, sample):
            if self.chat:
                turns = self.prompt.messages(sample, count, shots_as_turns=self.shots_as_turns)
                text = rendered(model, turns)
            else:
                text = self.prompt.text(sample, count)
            try:
                found = await model.likelihoods([(text, each) for each in wanted])
            except ContextLengthError:
                if not count:
                    raise
                continue
            return ModelOutput(
                likelihoods=tuple(found),
                completion_tokens=sum(each.num_tokens for each in found),
                seconds=time.monotonic() - began,
                facts={"shots": count} if self.prompt.count else {},
            )
        raise AssertionError("a prompt without shots is the last one tried")


@dataclass(frozen=True)
class GenerationSolver:
    """The text after the prompt, cut before the first of ``sampling.stop``, as models elsewhere
    may not know all of them. ``drafts``: how many texts; all of them are in the output's facts
    under "drafts" where there are more than one. ``seed``: of what is drawn, with the sample's id.
    """

    prompt: FewShot
    sampling: SamplingParams = field(
        default_factory=lambda: SamplingParams(temperature=0.0, max_tokens=256)
    )
    chat: bool = False
    drafts: int = 1
    seed: int = 0
    shots_as_turns: bool = False

    def __post_init__(self) -> None:
        if self.drafts < 1:
            raise InputError(f"{self.drafts} drafts of an answer", param="drafts")
        if self.drafts > 1 and self.sampling.greedy:
            raise InputError(
                f"{self.drafts} drafts at temperature 0 would all be one text",
                hint="raise the temperature, or ask for one draft",
                param="drafts",
            )

    @cached_property
    def protocol(self) -> dict[str, Any]:
        return {
            "asks": "text",
            "prompt": self.prompt.protocol,
            "sampling": sampling_protocol(self.sampling),
            "chat": self.chat,
            "drafts": self.drafts,
            "seed": self.seed,
            "shots_as_turns": self.shots_as_turns,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        model, began = subject.needed_chat(), time.monotonic()
        for count in _counts(self.prompt, sample):
            requests = [self._request(sample, count, number) for number in range(self.drafts)]
            try:
                found = await asyncio.gather(*(completed(model, each) for each in requests))
            except ContextLengthError:
                if not count:
                    raise
                continue
            return self._output(found, count, time.monotonic() - began)
        raise AssertionError("a prompt without shots is the last one tried")

    def _request(self, sample: Sample, count: int, number: int) -> Request:
        sampling = self.sampling
        if not sampling.greedy:
            key = f"{self.seed}\0{number}\0{sample.id}".encode()
            seed = int.from_bytes(hashlib.sha256(key).digest()[:7], "big")
            sampling = sampling.replace(seed=seed)
        if self.chat:
            turns = self.prompt.messages(sample, count, shots_as_turns=self.shots_as_turns)
            return Request(turns, sampling=sampling)
        return Request(prompt=self.prompt.text(sample, count), sampling=sampling)

    def _output(self, found: Sequence[Completion], count: int, seconds: float) -> ModelOutput:
        drafts = [cut_at(each.text, self.sampling.stop) for each in found]
        facts: dict[str, Any] = {"shots": count} if self.prompt.count else {}
        if self.drafts > 1:
            facts["drafts"] = drafts
        return ModelOutput(
            drafts[0],
            prompt_tokens=sum(each.usage.prompt_tokens for each in found),
            completion_tokens=sum(each.usage.completion_tokens for each in found),
            seconds=seconds,
            finish_reason=found[0].choices[0].finish_reason,
            facts=facts,
        )


def cut_at(text: str, stops: tuple[str, ...]) -> str:
    """``text`` before the first place where one of ``stops`` stands."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _counts(prompt: FewShot, sample: Sample) -> range:
    """Ever fewer shots of ``sample``, down to none."""
    return range(len(prompt.shots_of(sample)), -1, -1)


@dataclass(frozen=True)
class LetterScorer:
    """``acc``: whether the first match of ``pattern`` is the letter of a gold choice. ``parsed``:
    whether there was one."""

    pattern: str

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "letter", "pattern": self.pattern}

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        match = re.search(self.pattern, output.text)
        letter = match.group(1).upper() if match else ""
        right = {LETTERS[place] for place in sample.gold}
        return {"acc": float(letter in right), "parsed": float(match is not None)}


def with_chat(task: Task, *, shots_as_turns: bool = False) -> Task:
    """``shots_as_turns``: each example is a turn of the user and one of the assistant.
    `InputError` for a task that has one way to ask."""
    return replace(task, solver=_chatting(task, task.solver, shots_as_turns))


def _chatting(task: Task, solver: Solver, shots_as_turns: bool) -> Solver:
    if isinstance(solver, LikelihoodSolver | MultipleChoice):
        return replace(solver, chat=True, shots_as_turns=shots_as_turns)
    if isinstance(solver, GenerationSolver) and solver.chat:
        return replace(solver, shots_as_turns=shots_as_turns)
    if isinstance(solver, Generate):
        return replace(solver, chat=True, shots_as_turns=shots_as_turns) if solver.raw else solver
    if isinstance(solver, SelfConsistency):
        inner = _chatting(task, solver.solver, shots_as_turns)
        assert isinstance(inner, Generate)
        return replace(solver, solver=inner)
    if isinstance(solver, TargetLikelihood) and all(s.targets for s in task.dataset.samples):
        return replace(solver, chat=True)
    raise InputError(
        f"{task.name} has one way to send its prompts, which is not through a chat template",
        hint="leave --chat out for it",
        param="chat",
    )
