"""What stands before a question, and the whole as a conversation.

Worked examples (few-shot) are the same ones before each sample. A sample is never shown as an
example of itself: one more than needed is held ready to take its place. A prompt of text becomes a
conversation as lm-evaluation-harness has it with its chat template:

    header, examples, question  ->  the system's turn, and one turn of the user with all the rest;
                                    or with ``fewshot_as_multiturn`` a turn for each question and
                                    each answer

Where a template refuses the system's turn, that is left out, as there. Not covered: shots that a
published benchmark fixes otherwise (`benchmarks`), and the template itself, which is the model's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from lmstack.core import (
    ChatModel,
    ChatRenderer,
    Completion,
    InputError,
    LikelihoodModel,
    Message,
    Request,
    UnsupportedError,
    check_text,
    check_whole,
    complete,
)
from lmstack.evals.json_forms import digest_of
from lmstack.evals.task import Sample

__all__ = ["Shots", "answer_of", "completed", "conversation", "raw_text", "rendered"]


def raw_text(sample: Sample) -> str:
    """The input; `InputError` where it is a conversation already."""
    if isinstance(sample.input, str):
        return sample.input
    raise InputError(
        f"the sample {sample.id} is a conversation, and the solver sends raw text",
        hint="generate without raw, or give the input as text",
        param="input",
    )


def conversation(
    header: str, text: str, shots: Sequence[tuple[str, str]] = (), question: str | None = None
) -> tuple[Message, ...]:
    """``text``: examples and question in one. ``question``: None asks by ``text`` in one turn;
    otherwise ``shots``, each a question with its answer, and the question are turns."""
    turns = [Message("system", header)] if header else []
    if question is None:
        return (*turns, Message("user", text))
    for asked, answer in shots:
        turns += [Message("user", asked), Message("assistant", answer)]
    return (*turns, Message("user", question))


def rendered(model: LikelihoodModel, messages: tuple[Message, ...]) -> str:
    """By the template of ``model``; `UnsupportedError` where it has none."""
    if not isinstance(model, ChatRenderer):
        raise UnsupportedError(
            f"{model.info.name} has no chat template that can be seen",
            hint="evaluate a chat model that lmstack runs itself, or leave chat out",
            param="model",
        )
    try:
        return model.render_chat(messages)
    except InputError as error:
        if not _refuses_system(error, messages):
            raise
        return model.render_chat(messages[1:])


async def completed(model: ChatModel, request: Request) -> Completion:
    """The answer to ``request``."""
    try:
        return await complete(model, request)
    except InputError as error:
        if not _refuses_system(error, request.messages):
            raise
        return await complete(model, replace(request, messages=request.messages[1:]))


def _refuses_system(error: InputError, messages: Sequence[Message]) -> bool:
    is_template = error.param == "messages" and "template" in error.message
    return is_template and len(messages) > 1 and messages[0].role == "system"


def _as_it_is(sample: Sample) -> Sample:
    return sample


@dataclass(frozen=True)
class Shots:
    """``samples``: in the order shown, the last one a spare where there are more than ``count``.
    ``before_answer``, ``after_answer``: text around an example's answer in a raw prompt."""

    samples: tuple[Sample, ...]
    count: int
    before_answer: str = " "
    after_answer: str = "\n\n"

    def __post_init__(self) -> None:
        check_whole("shots", self.count, 1, 1024)
        check_text("before_answer", self.before_answer)
        check_text("after_answer", self.after_answer)
        if len(self.samples) < self.count:
            raise InputError(
                f"{self.count} shots are wanted, and there are {len(self.samples)} samples to show",
                param="shots",
            )
        for sample in self.samples:
            answer_of(sample)

    @classmethod
    def first(cls, samples: Sequence[Sample], count: int, **options: str) -> Shots:
        """The first ``count``."""
        return cls(tuple(samples[: count + 1]), count, **options)

    @classmethod
    def drawn(cls, samples: Sequence[Sample], count: int, seed: int = 0, **options: str) -> Shots:
        """``count`` drawn at random, the same ones for the same seed and samples."""
        most = min(count + 1, len(samples))
        return cls(tuple(random.Random(seed).sample(list(samples), most)), count, **options)

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        shown = [sample.to_json() for sample in self.samples]
        return {
            "count": self.count,
            "ids": [sample.id for sample in self.samples],
            "digest": digest_of(shown, "the shots"),
            "before_answer": self.before_answer,
            "after_answer": self.after_answer,
        }

    def of(self, sample: Sample) -> tuple[Sample, ...]:
        """Those that are shown before ``sample``."""
        others = [each for each in self.samples if each.input != sample.input]
        return tuple(others[: self.count])

    def text(self, sample: Sample, form: Callable[[Sample], Sample] = _as_it_is) -> str:
        """The examples before ``sample`` as raw text. ``form``: how an example is shown."""
        return "".join(
            f"{each.text}{self.before_answer}{answer_of(each)}{self.after_answer}"
            for each in map(form, self.of(sample))
        )


def answer_of(sample: Sample) -> str:
    """The right answer that an example shows: its first target, or its first right choice."""
    if sample.targets:
        return sample.targets[0]
    if sample.gold:
        return sample.choices[sample.gold[0]]
    raise InputError(
        f"the sample {sample.id} has no answer to show",
        hint="give it targets, or gold among its choices",
        param="shots",
    )
