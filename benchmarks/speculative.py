"""Speculative decoding on and off, in one run: copying, quoting and free writing.

    python benchmarks/speculative.py                 all of it, about ten minutes
    python benchmarks/speculative.py --quick         fewer rounds and streams
    python benchmarks/speculative.py --wall          two threads and the clock on the wall

Seconds are processor time of one thread unless `--wall` is given, so that a machine that others
use as well gives figures too; the engine decides by the same seconds.

SmolLM2-135M-Instruct with the blocks of its file on the native ops. Both sides share a process, the
weights and the requests, and take turns request by request, because shared machines stall; of each
side the best round counts, and the median is given beside it. Greedy outputs have to be equal
token for token, sampled ones too. For want of a smaller model with the same tokens, a draft model
is shown by the same model in bfloat16, which the blocks of its file draft for.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recording import add_options, result_file
from spine import processor

HERE = pathlib.Path(__file__).resolve().parent
MODEL = "smollm2-135m-instruct"
NUM_TOKENS = 128
PASSAGES = (
    "The river Aller rises near Eggenstedt in Saxony-Anhalt and flows north-west for 215 kilometres"
    " before it meets the Weser at Verden. Of its tributaries the Leine is the longest, and the"
    " Oker brings water from the Harz. Barges reach Celle; above that town the river is left to"
    " anglers and canoes.",
    "Invoice 20419 of 3 March: 12 boxes of printer paper at 4.90 each, 3 toner cartridges (black,"
    " type TN-2410) at 61.50 each, and one desk lamp, model Arco 7, at 38.00. Payment is due"
    " within 14 days to account 88-2043-117 at the Union Bank of Harlow.",
    "def interpolate(points, x):\n    points = sorted(points)\n    for (x0, y0), (x1, y1) in"
    " zip(points, points[1:]):\n        if x0 <= x <= x1:\n            share = (x - x0) / (x1 - x0)"
    "\n            return y0 + share * (y1 - y0)\n    raise ValueError(f'{x} is outside of the"
    " points')",
    "Members may borrow up to six books for three weeks. A loan is renewed once, unless somebody"
    " else has asked for the book. Whoever returns a book late pays 20 cents a day, at most 5"
    " euros a book. Lost books are replaced at their price, plus 3 euros for the binding.",
)
TOPICS = (
    "a lighthouse keeper who finds a letter",
    "why cities plant trees along their streets",
    "a machine that dreams",
    "how bread is made",
)


@dataclass(frozen=True)
class Work:
    name: str
    prompts: tuple[str, ...]
    sampling: Mapping[str, Any]
    tokens: int = NUM_TOKENS

    def shorter(self) -> Work:
        """For a quick run."""
        return replace(self, prompts=self.prompts[:2], tokens=16)


WORKS = (
    Work(
        "copying",
        tuple(f"Repeat this text word for word, with nothing else:\n\n{p}" for p in PASSAGES),
        {"temperature": 0.0},
    ),
    Work(
        "quoting",
        tuple(
            f"{p}\n\nSummarise the text above in three points, each with the exact words that"
            " prove it in quotation marks."
            for p in PASSAGES
        ),
        {"temperature": 0.0},
    ),
    Work(
        "free writing, sampled",
        tuple(f"Write a short text about {t}." for t in TOPICS),
        {"temperature": 0.8},
    ),
)


@dataclass
class Round:
    seconds: float
    tokens: list[list[int]]
    drafted: int
    accepted: int

    @property
    def rate(self) -> float:
        return sum(map(len, self.tokens)) / self.seconds


class Side:
    """An engine of its own over weights that all share."""

    def __init__(
        self, loaded: Any, speculation: str, draft: Any = None, *, wall: bool = False
    ) -> None:
        from lmstack.engine import Engine, EngineConfig, GrammarVocabulary

        tokenizer = loaded.tokenizer
        self._ends = loaded.generation.eos_ids
        vocabulary = GrammarVocabulary(
            [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
            self._ends,
            tokenizer.special_ids,
        )
        # Prompts come again in every round, and only their answers are to be timed.
        config = EngineConfig(speculation=speculation, kv_memory_bytes=512 << 20)
        module = None if draft is None else draft.module
        self._clock = time.perf_counter if wall else time.thread_time
        self._engine = Engine(loaded.module, vocabulary, config, draft=module, clock=self._clock)
        self._numbers = iter(range(1 << 30))

    def close(self) -> None:
        self._engine.close()

    def run(self, prompts: list[list[int]], work: Work) -> Round:
        """All at once; seconds from when each has its first token to the last of all. Steps are
        driven from here, in this thread."""
        from lmstack.core import SamplingParams
        from lmstack.engine import EngineRequest, TokenEvent

        texts: list[list[int]] = [[] for _ in prompts]
        counts = [(0, 0)] * len(prompts)
        began: list[float] = []

        def listener(index: int) -> Any:
            def hear(event: TokenEvent) -> None:
                if event.error is not None:
                    raise event.error
                assert event.token is not None
                if not texts[index]:
                    began.append(self._clock())
                texts[index].append(event.token)
                counts[index] = event.drafted_tokens, event.accepted_tokens

            return hear

        for index, ids in enumerate(prompts):
            params = SamplingParams(max_tokens=work.tokens, seed=index, **work.sampling)
            number = str(next(self._numbers))
            self._engine.submit(EngineRequest(number, tuple(ids), listener(index), params))
        while self._engine.step():
            pass
        seconds = self._clock() - max(began)
        return Round(seconds, texts, sum(c[0] for c in counts), sum(c[1] for c in counts))


def compared(
    sides: Mapping[str, Side], batches: list[list[list[int]]], work: Work, rounds: int
) -> dict[str, Any]:
    raw: dict[str, list[Round]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        order = list(sides) if number % 2 else list(reversed(sides))
        for name in order:
            made = joined([sides[name].run(batch, work) for batch in batches])
            if number:  # the first warms caches and costs
                raw[name].append(made)
    first = raw["off"][0].tokens
    same = all(r.tokens == first for each in raw.values() for r in each)
    best = {name: max(r.rate for r in each) for name, each in raw.items()}
    median = {name: statistics.median(r.rate for r in each) for name, each in raw.items()}
    drafted = sum(r.drafted for r in raw["auto"])
    return {
        "work": work.name,
        "streams": len(batches[0]),
        "tokens": sum(map(len, first)),
        "equal": same,
        "best": best,
        "median": median,
        "ratio": best["auto"] / best["off"],
        "ratio_of_medians": median["auto"] / median["off"],
        "drafted_per_token": drafted / sum(sum(map(len, r.tokens)) for r in raw["auto"]),
        "acceptance": sum(r.accepted for r in raw["auto"]) / drafted if drafted else None,
        "raw": {name: [r.rate for r in each] for name, each in raw.items()},
    }


def joined(rounds: list[Round]) -> Round:
    return Round(
        sum(r.seconds for r in rounds),
        [text for r in rounds for text in r.tokens],
        sum(r.drafted for r in rounds),
        sum(r.accepted for r in rounds),
    )


def prompt_ids(loaded: Any, text: str) -> list[int]:
    from lmstack.core import Message, Request
    from lmstack.serve.tokens import prompt_ids as made

    request = Request(messages=(Message("user", text),))
    return list(made(request, loaded.tokenizer, loaded.template, encodes=False))


def measure(
    title: str,
    loaded: Any,
    draft: Any,
    works: Sequence[Work],
    streams: tuple[int, ...],
    rounds: int,
    *,
    wall: bool,
) -> list[dict[str, Any]]:
    results = []
    sides = {"off": Side(loaded, "off", wall=wall), "auto": Side(loaded, "auto", draft, wall=wall)}
    try:
        for work in works:
            for count in streams:
                ids = [prompt_ids(loaded, text) for text in work.prompts]
                ids *= -(-count // len(ids))
                batches = [ids[i : i + count] for i in range(0, len(ids), count)]
                result = compared(sides, batches, work, rounds)
                results.append({"weights": title, **result})
                print(line(results[-1]), flush=True)
    finally:
        for side in sides.values():
            side.close()
    return results


def line(r: Mapping[str, Any]) -> str:
    rate = "-" if r["acceptance"] is None else f"{r['acceptance']:.2f}"
    return (
        f"{r['weights']:24} {r['work']:22} {r['streams']:3} streams"
        f"  off {r['best']['off']:7.1f}  auto {r['best']['auto']:7.1f} tokens/s"
        f"  x {r['ratio']:.2f} (medians {r['ratio_of_medians']:.2f})"
        f"  drafted {r['drafted_per_token']:.2f} a token, right {rate}"
        f"{'' if r['equal'] else '  NOT EQUAL'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wall", action="store_true")
    add_options(parser, "speculative")
    args = parser.parse_args()
    import torch

    from lmstack.registry import Store
    from lmstack.serve.local import load_draft, load_weights

    if not args.wall:
        torch.set_num_threads(1)
    rounds, streams = (1, (2,)) if args.quick else (3, (1, 4, 16))
    works = [work.shorter() for work in WORKS] if args.quick else WORKS
    store = Store()
    blocks = load_weights(MODEL, store, "file")
    results = measure("Q4_1 of the file", blocks, None, works, streams, rounds, wall=args.wall)
    full, draft = load_weights(MODEL, store, "bfloat16"), load_draft(MODEL, store)
    title = "bfloat16, drafts by Q4_1"
    results += measure(title, full, draft, works, streams[:1], rounds, wall=args.wall)
    report = {
        "machine": {"processor": processor(), "threads": torch.get_num_threads()},
        "seconds": "wall" if args.wall else "processor time",
        "model": MODEL,
        "results": results,
    }
    result_file(args, "speculative").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
