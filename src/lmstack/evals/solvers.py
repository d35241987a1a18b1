"""How a sample is put to a subject.

    Generate           one answer to a chat or to a raw prompt; with a cue, chain of thought
    SelfConsistency    several answers, and the one that most of them come to (Wang et al., 2022,
                       arXiv:2203.11171)

Each protocol says all that decides what is sent. Whatever is drawn has a seed of its own that
follows from the solver's seed and the sample, so that a local model gives the same answer whatever
runs beside it. What an answer is worth, and where in a text it stands, is the scorer's. Not
covered: solvers of published benchmarks, agents, retrieval.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from lmstack.core import (
    Choice,
    Completion,
    Grammar,
    InputError,
    Message,
    Request,
    SamplingParams,
    check_text,
    check_whole,
    shown,
)
from lmstack.evals.conversation import Shots, answer_of, completed, conversation, raw_text
from lmstack.evals.task import ModelOutput, Sample, Subject

__all__ = ["THINK", "Generate", "SelfConsistency", "sampling_protocol"]

# Kojima et al., 2022 (arXiv:2205.11916).
THINK = "Let's think step by step."
_GREEDY = SamplingParams(temperature=0.0, max_tokens=256)
_ALWAYS_SAID = ("temperature", "max_tokens")


def sampling_protocol(sampling: SamplingParams) -> dict[str, Any]:
    """Temperature, ``max_tokens``, and what else is not as the default has it."""
    found = {}
    for each in fields(sampling):
        value = getattr(sampling, each.name)
        default = {} if each.name == "logit_bias" else each.default
        if value != default or each.name in _ALWAYS_SAID:
            if isinstance(value, Mapping):
                value = {str(token): amount for token, amount in value.items()}
            found[each.name] = list(value) if isinstance(value, tuple) else value
    return found


@dataclass(frozen=True)
class Generate:
    """One answer. ``raw``: the prompt is text that goes to the model as it is; otherwise it is a
    chat. ``instruction``: before everything: the system's turn of a chat, or text. ``shots``:
    examples. ``cue``: after the question, such as `THINK`; in a chat on a line of its own.
    ``seed``: of what is drawn. ``grammar``: that answers are held to. ``chat``: a raw prompt's text
    goes through the model's chat template after all (`conversation`), its examples as turns where
    ``shots_as_turns``."""

    sampling: SamplingParams = _GREEDY
    raw: bool = False
    instruction: str = ""
    shots: Shots | None = None
    cue: str = ""
    seed: int = 0
    chat: bool = False
    shots_as_turns: bool = False
    grammar: Grammar | None = None

    def __post_init__(self) -> None:
        check_text("instruction", self.instruction)
        check_text("cue", self.cue)
        if self.chat and not self.raw:
            raise InputError(
                "a chat goes through the template as it is", hint="leave chat out", param="chat"
            )
        if self.sampling.n != 1 or self.sampling.seed is not None:
            raise InputError(
                "the sampling of a solver has n or seed",
                hint="use SelfConsistency for several answers, and the solver's own seed",
                param="sampling",
            )

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        held = self.grammar
        form = {} if held is None else {"grammar": {"kind": held.kind, "source": held.source}}
        return {
            "solver": "generate",
            "raw": self.raw,
            "instruction": self.instruction,
            "shots": None if self.shots is None else dict(self.shots.protocol),
            "cue": self.cue,
            "sampling": sampling_protocol(self.sampling),
            "seed": self.seed,
            "chat": self.chat,
            "shots_as_turns": self.shots_as_turns,
            **form,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        model, began = subject.needed_chat(), time.monotonic()
        found = await completed(model, self.request(sample))
        return _output(found.choices[0], [found], time.monotonic() - began)

    def request(self, sample: Sample, number: int = 0) -> Request:
        """Of the ``number``-th answer to ``sample``."""
        sampling = self.sampling
        if not sampling.greedy:
            sampling = sampling.replace(seed=_seed(sample, self.seed, number))
        if self.raw and not self.chat:
            prompt = f"{self.instruction}{self._asked(sample)}"
            return Request(prompt=prompt, sampling=sampling, grammar=self.grammar)
        return Request(messages=self.messages(sample), sampling=sampling, grammar=self.grammar)

    def messages(self, sample: Sample) -> tuple[Message, ...]:
        if self.raw:
            return self._templated(sample)
        turns = [Message("system", self.instruction)] if self.instruction else []
        for shot in self.shots.of(sample) if self.shots else ():
            turns += [*_turns(shot), Message("assistant", answer_of(shot))]
        turns += _turns(sample)
        if self.cue:
            last = turns.pop()
            turns.append(Message(last.role, f"{last.content}\n{self.cue}", last.name))
        return tuple(turns)

    def _asked(self, sample: Sample) -> str:
        shots = self.shots.text(sample) if self.shots else ""
        return f"{shots}{raw_text(sample)}{self.cue}"

    def _templated(self, sample: Sample) -> tuple[Message, ...]:
        """The turns of a raw prompt that goes through the chat template."""
        if not self.shots_as_turns:
            return conversation(self.instruction, self._asked(sample))
        shots = [
            (each.text, answer_of(each)) for each in (self.shots.of(sample) if self.shots else ())
        ]
        question = f"{raw_text(sample)}{self.cue}"
        return conversation(self.instruction, "", shots, question)


@dataclass(frozen=True)
class SelfConsistency:
    """``samples`` answers by ``solver``, which has to draw. An answer comes to the last match of
    ``pattern`` in it: the first group, or all of the match. The output is the first of the answers
    that most come to the same thing; where none matches, the first of all. ``facts``: ``drafts``,
    what each ``came_to`` (null where nothing matches), and the share of ``votes`` that it has."""

    solver: Generate
    samples: int
    pattern: str

    def __post_init__(self) -> None:
        check_whole("samples", self.samples, 2, 256)
        if self.solver.sampling.greedy:
            raise InputError(
                "several answers are asked for, and the temperature is 0",
                hint="set a temperature, such as 0.7",
                param="sampling",
            )
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise InputError(
                f"pattern is {shown(self.pattern)}, not a regular expression: {error}",
                param="pattern",
            ) from error

    @cached_property
    def protocol(self) -> Mapping[str, Any]:
        return {
            "solver": "self_consistency",
            "samples": self.samples,
            "pattern": self.pattern,
            "generate": dict(self.solver.protocol),
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        model, began = subject.needed_chat(), time.monotonic()
        requests = [self.solver.request(sample, number) for number in range(self.samples)]
        found = await asyncio.gather(*(completed(model, request) for request in requests))
        reached = [self._reached(each.text) for each in found]
        votes = Counter(each for each in reached if each is not None)
        # Of equally many votes, those that were counted first come first.
        best, count = votes.most_common(1)[0] if votes else (None, 0)
        chosen = found[reached.index(best)].choices[0]
        facts = {
            "drafts": [each.text for each in found],
            "came_to": reached,
            "votes": count / self.samples,
        }
        return _output(chosen, found, time.monotonic() - began, facts)

    def _reached(self, text: str) -> str | None:
        matches = list(re.finditer(self.pattern, text))
        if not matches:
            return None
        last = matches[-1]
        return str(last[1] if last.re.groups and last[1] is not None else last[0]).strip()


def _output(
    choice: Choice,
    found: Sequence[Completion],
    seconds: float,
    facts: Mapping[str, Any] | None = None,
) -> ModelOutput:
    return ModelOutput(
        text=choice.text,
        prompt_tokens=sum(each.usage.prompt_tokens for each in found),
        completion_tokens=sum(each.usage.completion_tokens for each in found),
        seconds=seconds,
        finish_reason=choice.finish_reason,
        facts=facts or {},
    )


def _turns(sample: Sample) -> list[Message]:
    if isinstance(sample.input, str):
        return [Message("user", sample.input)]
    return list(sample.input)


def _seed(sample: Sample, seed: int, number: int) -> int:
    text = f"{seed}\0{number}\0{sample.id}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
