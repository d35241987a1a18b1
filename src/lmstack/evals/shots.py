"""Worked examples before a question (few-shot), the same ones before each.

Covers which samples are shown and how an example's answer is written. A sample is never shown as
an example of itself: one more than needed is held ready to take its place. Not covered: shots that
a published benchmark fixes otherwise (`benchmarks`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lmstack.core import InputError, check_text, check_whole
from lmstack.evals.dataset import Sample
from lmstack.evals.json_forms import digest_of

__all__ = ["Shots", "answer_of"]


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
