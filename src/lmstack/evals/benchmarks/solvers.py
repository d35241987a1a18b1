"""How a benchmark asks: likelihoods of choices, or text that is generated.

Both take their prompts from a `FewShot` and leave out shots, from the last on, where a prompt is
longer than the model's window. Texts are asked as raw prompts, as benchmarks of base models are;
``chat`` sends the same text as a user's turn through the model's chat template. Not covered: what
an output is worth (`scoring`), running over a data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lmstack.core import (
    Completion,
    ContextLengthError,
    InputError,
    Message,
    Request,
    SamplingParams,
    complete,
)
from lmstack.evals.benchmarks.prompts import LETTERS, FewShot
from lmstack.evals.dataset import Sample
from lmstack.evals.task import Output, Subject

__all__ = ["GenerationSolver", "LikelihoodSolver", "cut_at"]

_MOST_CHOICES = 16  # of one request


@dataclass(frozen=True)
class LikelihoodSolver:
    """The log-likelihood of each choice after the prompt. ``continuation``: a template of what is
    scored, with ``letter`` and ``choice``; lm-evaluation-harness puts a space before it."""

    prompt: FewShot
    continuation: str = " {choice}"

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "asks": "likelihoods",
            "prompt": self.prompt.protocol,
            "continuation": self.continuation,
        }

    def continuations(self, sample: Sample) -> list[str]:
        return [
            self.continuation.format(letter=LETTERS[place], choice=choice)
            for place, choice in enumerate(sample.choices)
        ]

    async def __call__(self, sample: Sample, subject: Subject) -> Output:
        if not sample.choices:
            raise InputError(f"sample {sample.id} has no choices to score", param="choices")
        model = subject.needed_likelihood()
        wanted = self.continuations(sample)
        async for count, text in _prompts(self.prompt, sample):
            try:
                found = await model.likelihoods([(text, each) for each in wanted])
            except ContextLengthError:
                if not count:
                    raise
                continue
            facts = {"shots": count} if self.prompt.count else {}
            return Output(likelihoods=tuple(found), facts=facts)
        raise AssertionError("a prompt without shots is the last one tried")


@dataclass(frozen=True)
class GenerationSolver:
    """The text after the prompt, cut before the first of ``sampling.stop``, as models elsewhere
    may not know all of them. ``drafts``: how many texts, all of which are in the output's facts
    under "drafts" where there are more than one; draft i has the seed ``sampling.seed`` + i."""

    prompt: FewShot
    sampling: SamplingParams = field(
        default_factory=lambda: SamplingParams(temperature=0.0, max_tokens=256)
    )
    chat: bool = False
    drafts: int = 1

    def __post_init__(self) -> None:
        if self.drafts < 1:
            raise InputError(f"{self.drafts} drafts of an answer", param="drafts")
        if self.drafts > 1 and self.sampling.greedy:
            raise InputError(
                f"{self.drafts} drafts at temperature 0 would all be one text",
                hint="raise the temperature, or ask for one draft",
                param="drafts",
            )

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "asks": "text",
            "prompt": self.prompt.protocol,
            "sampling": sampling_json(self.sampling),
            "chat": self.chat,
            "drafts": self.drafts,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> Output:
        async for count, text in _prompts(self.prompt, sample):
            try:
                found = [
                    await complete(subject.needed_chat(), request) for request in self._asked(text)
                ]
            except ContextLengthError:
                if not count:
                    raise
                continue
            return self._output(found, count)
        raise AssertionError("a prompt without shots is the last one tried")

    def _asked(self, text: str) -> Iterator[Request]:
        """Requests for all drafts; engines answer at most so many choices at once."""
        for start in range(0, self.drafts, _MOST_CHOICES):
            number = min(_MOST_CHOICES, self.drafts - start)
            seed = None if self.sampling.seed is None else self.sampling.seed + start
            sampling = dataclasses.replace(self.sampling, n=number, seed=seed)
            if self.chat:
                yield Request((Message("user", text),), sampling=sampling)
            else:
                yield Request(prompt=text, sampling=sampling)

    def _output(self, found: list[Completion], count: int) -> Output:
        choices = [choice for completion in found for choice in completion.choices]
        drafts = [cut_at(choice.text, self.sampling.stop) for choice in choices]
        facts: dict[str, Any] = {"shots": count} if self.prompt.count else {}
        if self.drafts > 1:
            facts["drafts"] = drafts
        return Output(
            drafts[0],
            prompt_tokens=sum(completion.usage.prompt_tokens for completion in found),
            completion_tokens=sum(completion.usage.completion_tokens for completion in found),
            seconds=sum(completion.timings.total_s for completion in found),
            finish_reason=choices[0].finish_reason,
            facts=facts,
        )


def cut_at(text: str, stops: tuple[str, ...]) -> str:
    """``text`` before the first place where one of ``stops`` stands."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def sampling_json(sampling: SamplingParams) -> Mapping[str, Any]:
    """The fields that are not at their defaults."""
    neutral = SamplingParams()
    values = {each.name: getattr(sampling, each.name) for each in dataclasses.fields(sampling)}
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in values.items()
        if value != getattr(neutral, name)
    }


async def _prompts(prompt: FewShot, sample: Sample) -> AsyncIterator[tuple[int, str]]:
    """The prompt with ever fewer shots, down to none, with how many it has."""
    for count in range(len(prompt.shots_of(sample)), -1, -1):
        yield count, prompt.text(sample, count)
