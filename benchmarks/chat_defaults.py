"""Sampling settings for a request that states none, compared on plain questions.

    python benchmarks/chat_defaults.py                   the half of the questions for choosing
    python benchmarks/chat_defaults.py --test            the other half: only to be summed up
    python benchmarks/chat_defaults.py --limit 20        so many questions of each list
    python benchmarks/chat_defaults.py --model qwen2.5-coder-1.5b-instruct

The model, `smollm2-135m-instruct` unless another is given, answers each question with each
candidate, two seeds where it draws, at most 256 tokens. Right: a known answer stands in the
answer, word for word (facts only). Babbles: the answer does not end by itself, or loops
(`babble.py`). Off topic: less like its question (cosine of `all-minilm-l6-v2`) than nineteen in
twenty pairs of questions with answers to others. Distinct: pairs of seeds with different answers.
Intervals are Wilson's, over questions and seeds.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import pathlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from babble import BUDGET, babbles, loops
from chat_questions import Question, questions_of
from machine import machine
from questions import share

from lmstack.core import Message, Request, SamplingParams, complete
from lmstack.serve import LocalEmbedder, LocalModel

MODEL, EMBEDDER = "smollm2-135m-instruct", "all-minilm-l6-v2"
FLIGHT = 32
AUTHORS = {"temperature": 0.2, "top_p": 0.9}
# As others quote what Qwen's makers recommend for instruct models of this size.
QWEN = {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1}
CANDIDATES: dict[str, dict[str, float]] = {
    "greedy": {"temperature": 0},
    "greedy, repetition 1.05": {"temperature": 0, "repetition_penalty": 1.05},
    "greedy, repetition 1.1": {"temperature": 0, "repetition_penalty": 1.1},
    "greedy, repetition 1.2": {"temperature": 0, "repetition_penalty": 1.2},
    "greedy, frequency 0.3": {"temperature": 0, "frequency_penalty": 0.3},
    "greedy, frequency 0.6": {"temperature": 0, "frequency_penalty": 0.6},
    "greedy, presence 0.6": {"temperature": 0, "presence_penalty": 0.6},
    "greedy, presence 1.2": {"temperature": 0, "presence_penalty": 1.2},
    "greedy, presence 0.6, frequency 0.3": {
        "temperature": 0,
        "presence_penalty": 0.6,
        "frequency_penalty": 0.3,
    },
    "greedy, no repeated 6-gram": {"temperature": 0, "no_repeat_ngram_size": 6},
    "greedy, no repeated 8-gram": {"temperature": 0, "no_repeat_ngram_size": 8},
    "temperature 0.2, top_p 0.9": AUTHORS,
    "temperature 0.2, top_p 0.9, repetition 1.1": {**AUTHORS, "repetition_penalty": 1.1},
    "temperature 0.2, top_p 0.9, repetition 1.05": {**AUTHORS, "repetition_penalty": 1.05},
    "temperature 0.2, top_p 0.9, no repeated 8-gram": {**AUTHORS, "no_repeat_ngram_size": 8},
    "temperature 0.2, top_p 0.9, frequency 0.6": {**AUTHORS, "frequency_penalty": 0.6},
    "temperature 0.2, top_p 0.9, frequency 0.3": {**AUTHORS, "frequency_penalty": 0.3},
    "temperature 0.7, min_p 0.1": {"temperature": 0.7, "min_p": 0.1},
    "temperature 1, min_p 0.2": {"temperature": 1, "min_p": 0.2},
    "temperature 0.7, top_p 0.8, top_k 20, repetition 1.1": QWEN,
    "temperature 1": {"temperature": 1},
}


@dataclass(frozen=True)
class Said:
    question: Question
    seed: int
    text: str
    reason: str
    tokens: int


async def answers(
    model: LocalModel, questions: Sequence[Question], settings: Mapping[str, float], num_seeds: int
) -> list[Said]:
    seeds = range(num_seeds if settings["temperature"] else 1)
    gate = asyncio.Semaphore(FLIGHT)

    async def one(question: Question, seed: int) -> Said:
        given = {**settings, "seed": seed, "max_tokens": BUDGET}
        request = Request(
            messages=(Message("user", question.text),),
            sampling=SamplingParams.from_mapping(given),
        )
        async with gate:
            done = await complete(model, request)
        choice = done.choices[0]
        return Said(question, seed, choice.text, choice.finish_reason, done.usage.completion_tokens)

    return await asyncio.gather(*(one(q, seed) for q in questions for seed in seeds))


class Topics:
    """Cosines of questions and answers; the threshold is set by pairs that do not belong."""

    def __init__(self, embedder: LocalEmbedder) -> None:
        self._embedder = embedder
        self._threshold = 0.0

    def calibrate(self, said: Sequence[Said]) -> float:
        """The cosine that 95 % of the questions stay below with an answer to another one."""
        asked, answered = self._vectors(said)
        shifts = [np.roll(answered, shift, axis=0) for shift in range(5, 50, 5)]
        others = np.concatenate([(asked * shifted).sum(1) for shifted in shifts])
        self._threshold = float(np.quantile(others, 0.95))
        return self._threshold

    def off(self, said: Sequence[Said]) -> int:
        asked, answered = self._vectors(said)
        return int(((asked * answered).sum(1) < self._threshold).sum())

    def _vectors(
        self, said: Sequence[Said]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        asked = self._embedder.embed([s.question.text for s in said])
        return asked, self._embedder.embed([s.text or "-" for s in said])


def summary(said: Sequence[Said], topics: Topics) -> dict[str, Any]:
    """Shares over one list or over all of them."""
    facts = [s for s in said if s.question.answers]
    pairs = list(_pairs(said))
    return {
        "right": share(sum(s.question.accepts(s.text) for s in facts), len(facts)),
        "babbles": share(sum(babbles(s.text, s.reason) for s in said), len(said)),
        "loops": share(sum(loops(s.text) for s in said), len(said)),
        "off_topic": share(topics.off(said), len(said)),
        "distinct": share(sum(a != b for a, b in pairs), len(pairs)),
        "mean_tokens": round(float(np.mean([s.tokens for s in said])), 1),
        "longest_that_ended": max((s.tokens for s in said if s.reason == "stop"), default=0),
    }


def _pairs(said: Sequence[Said]) -> Iterator[tuple[str, str]]:
    """Answers to the same question with different seeds."""
    key = lambda s: (s.question.text, s.seed)  # noqa: E731
    for _, group in itertools.groupby(sorted(said, key=key), key=lambda s: s.question.text):
        yield from itertools.combinations([s.text for s in group], 2)


def show(name: str, row: Mapping[str, Any]) -> None:
    parts = [
        f"{key} {value['share']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"
        for key, value in row.items()
        if isinstance(value, Mapping) and value["of"]
    ]
    print(f"{name:44} {'  '.join(parts)}  {row['mean_tokens']} tokens", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--test", action="store_true", help="the half that nothing is chosen on")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--limit", type=int, default=60)
    parser.add_argument("--list", action="append", default=[], help="one list only")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    parser.add_argument("--json", type=pathlib.Path, default=None)
    args = parser.parse_args()
    questions = questions_of(tuned_on=not args.test, limit=args.limit, lists=args.list)
    chosen = {name: CANDIDATES[name] for name in args.only} or CANDIDATES
    rows: dict[str, Any] = {}
    topics = Topics(LocalEmbedder.load(EMBEDDER))
    with LocalModel.load(args.model) as model:
        greedy = asyncio.run(answers(model, questions, CANDIDATES["greedy"], 1))
        threshold = topics.calibrate(greedy)
        for name, settings in chosen.items():
            start = time.perf_counter()
            is_greedy = name == "greedy"
            asked = None if is_greedy else answers(model, questions, settings, args.seeds)
            said = greedy if asked is None else asyncio.run(asked)
            lists = {s.question.source for s in said}
            rows[name] = {"settings": settings, "all": summary(said, topics)} | {
                each: summary([s for s in said if s.question.source == each], topics)
                for each in sorted(lists)
            }
            show(name, rows[name]["all"])
            print(f"{'':44} {time.perf_counter() - start:.0f} s", flush=True)
            if args.json:
                _write(args, rows, threshold, len(questions))


def _write(args: argparse.Namespace, rows: Any, threshold: float, count: int) -> None:
    """After each candidate, because a run takes long."""
    runs = json.loads(args.json.read_text()) if args.json.exists() else {}
    half = "test" if args.test else "tuning"
    before = runs.get(half, {}).get("candidates", {})
    runs[half] = {
        "machine": machine(),
        "model": args.model,
        "questions": count,
        "seeds": args.seeds,
        "max_tokens": BUDGET,
        "topic_threshold": threshold,
        "candidates": {**before, **rows},
    }
    args.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
