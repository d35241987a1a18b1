"""How a sample is put to a subject that says how likely texts are.

    MultipleChoice     how likely each choice is after the question
    TargetLikelihood   how likely the targets are after the input, or how likely a text of any
                       length is: perplexity

With ``chat`` a question goes through the model's chat template as in lm-evaluation-harness
(`conversation`), and what is scored follows it without the space or other text between the two.
Each protocol says all that decides what is scored. Not covered: what a likelihood is worth
(`metrics`), solvers of published benchmarks.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from string import ascii_uppercase
from typing import Any

from lmstack.core import (
    InputError,
    LikelihoodModel,
    Message,
    TextLikelihoodModel,
    UnsupportedError,
)
from lmstack.evals.conversation import Shots, answer_of, conversation, raw_text, rendered
from lmstack.evals.metrics.windows import Windows
from lmstack.evals.task import ModelOutput, Sample, Subject

__all__ = ["MultipleChoice", "TargetLikelihood"]

_ROLLING = Windows()


@dataclass(frozen=True)
class MultipleChoice:
    """The likelihood of each choice as it goes on from the question, all asked for at once, so that
    what they share is computed once. ``before_choice``: between question and choice. ``letters``:
    the choices are listed after the question, with ``ask`` after them, and their letters go on from
    there. The output's text is the likeliest choice, its sum of log-probabilities not normalized.
    ``chat``: through the template, ``instruction`` being the system's turn, and the examples turns
    of their own where ``shots_as_turns``.
    """

    instruction: str = ""
    shots: Shots | None = None
    before_choice: str = " "
    letters: bool = False
    ask: str = "Answer:"
    chat: bool = False
    shots_as_turns: bool = False

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        return {
            "solver": "multiple_choice",
            "instruction": self.instruction,
            "shots": None if self.shots is None else dict(self.shots.protocol),
            "before_choice": "" if self.chat else self.before_choice,
            "letters": self.letters,
            "ask": self.ask if self.letters else None,
            "chat": self.chat,
            "shots_as_turns": self.shots_as_turns,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        model = subject.needed_likelihood()
        if not sample.choices:
            raise InputError(f"the sample {sample.id} has no choices", param="choices")
        ends = _letters(sample) if self.letters else sample.choices
        if self.chat:
            pairs = [(rendered(model, self._messages(sample)), end) for end in ends]
        else:
            context = f"{self.instruction}{self._asked(sample)}"
            pairs = [(context, self.before_choice + end) for end in ends]
        output = await _likelihoods(model, pairs)
        logprobs = [each.logprob for each in output.likelihoods]
        best = max(range(len(ends)), key=lambda place: logprobs[place])
        return replace(output, text=sample.choices[best])

    def _asked(self, sample: Sample) -> str:
        shots = self.shots.text(sample, self._shown) if self.shots else ""
        return f"{shots}{raw_text(self._shown(sample))}"

    def _messages(self, sample: Sample) -> tuple[Message, ...]:
        if not self.shots_as_turns:
            return conversation(self.instruction, self._asked(sample))
        shown = map(self._shown, self.shots.of(sample) if self.shots else ())
        shots = [(each.text, answer_of(each)) for each in shown]
        return conversation(self.instruction, "", shots, raw_text(self._shown(sample)))

    def _shown(self, sample: Sample) -> Sample:
        """With its choices listed, and the letter of the right one as its answer."""
        if not self.letters:
            return sample
        letters = _letters(sample)
        lines = [f"{one}. {choice}" for one, choice in zip(letters, sample.choices, strict=True)]
        text = "\n".join([raw_text(sample), *lines, self.ask])
        return replace(sample, input=text, targets=tuple(letters[place] for place in sample.gold))


@dataclass(frozen=True)
class TargetLikelihood:
    """The likelihood of each target after the input; an empty input stands for the beginning of a
    text. Of a sample without targets, that of its input as a text of its own, by ``windows`` where
    it is longer than a model reads at once. ``before_target``: between input and target; ``chat``:
    the input goes through the template, as a conversation does in any case, and nothing stands
    between the two.

    A text begins without BOS where windows roll (lm-evaluation-harness scores the BOS that a
    tokenizer adds as a token of the text, which says nothing of the text); strided windows read
    what the tokenizer adds, as Hugging Face's guide does. Facts: ``windows``, how many there are,
    and ``max_length``, what they were cut to.
    """

    before_target: str = ""
    windows: Windows = _ROLLING
    chat: bool = False

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        return {
            "solver": "likelihood",
            "before_target": "" if self.chat else self.before_target,
            "windows": self.windows.protocol,
            "chat": self.chat,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        model = subject.needed_likelihood()
        if not sample.targets:
            return await self._of_text(model, sample)
        if isinstance(sample.input, str) and not self.chat:
            context, before = sample.input, self.before_target
        else:
            turns = sample.input
            asked = conversation("", turns) if isinstance(turns, str) else turns
            context, before = rendered(model, asked), ""
        return await _likelihoods(model, [(context, before + each) for each in sample.targets])

    async def _of_text(self, model: LikelihoodModel, sample: Sample) -> ModelOutput:
        text = sample.input
        if not isinstance(text, str):
            raise InputError(
                f"the sample {sample.id} is a conversation without an answer to score",
                hint="name the field with the answer: targets: answer",
                param="targets",
            )
        if self.chat:
            raise InputError(
                f"the sample {sample.id} is a text without a question, which no chat template"
                " changes",
                hint="leave chat out, or give the task targets",
                param="model",
            )
        if not isinstance(model, TextLikelihoodModel):
            raise UnsupportedError(
                f"{model.info.name} does not score texts by windows",
                hint="evaluate a model that lmstack runs itself",
                param="model",
            )
        began, lengths = time.monotonic(), list[int]()

        def cut(num_tokens: int, model_length: int) -> Sequence[tuple[int, int, int]]:
            lengths.append(self.windows.max_length or model_length)
            return self.windows.of(num_tokens, model_length)

        found = await model.text_likelihoods(text, cut, add_special_tokens=self.windows.is_strided)
        return ModelOutput(
            likelihoods=tuple(found),
            completion_tokens=sum(each.num_tokens for each in found),
            seconds=time.monotonic() - began,
            facts={"windows": len(found), "max_length": lengths[-1]},
        )


def _letters(sample: Sample) -> str:
    if len(sample.choices) > len(ascii_uppercase):
        raise InputError(
            f"the sample {sample.id} has {len(sample.choices)} choices, more than letters",
            hint="score the choices' own texts, without letters",
            param="letters",
        )
    return ascii_uppercase[: len(sample.choices)]


async def _likelihoods(model: LikelihoodModel, pairs: Sequence[tuple[str, str]]) -> ModelOutput:
    """``completion_tokens``: of all continuations; the context's are not told."""
    began = time.monotonic()
    found = tuple(await model.likelihoods(pairs))
    if len(found) != len(pairs):
        raise InputError(
            f"{model.info.name} gave {len(found)} likelihoods of {len(pairs)}", param="model"
        )
    tokens = sum(each.num_tokens for each in found)
    return ModelOutput(
        likelihoods=found, completion_tokens=tokens, seconds=time.monotonic() - began
    )
