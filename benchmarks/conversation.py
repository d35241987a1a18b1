"""The second turn of a conversation about the same documents beside the first.

    python benchmarks/conversation.py                      the default strategy
    python benchmarks/conversation.py --set strategy=write
    python benchmarks/conversation.py --quick              one conversation

For some entities of the planted-fact corpus, two questions about one, the second leaning on the
first where it can ("And …"). Each conversation starts cold: nothing of its documents has been
read by the model. Reported: seconds of an
answer, and tokens of the model that were computed and reused, of the first turn and of the second.
Time is the median over conversations, and that of the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import time
from contextlib import ExitStack
from typing import Any

from citations import SEEDS, Side
from questions import parse_settings
from spine import processor

from lmstack.rag import AnswerConfig, Answerer


def conversations(side: Side, count: int) -> list[tuple[str, str]]:
    """Two questions about one document each, whose editions do not matter."""
    by_path: dict[str, list[str]] = {}
    for question in side.questions:
        if question.kind in ("fact", "table"):
            by_path.setdefault(question.parts[0][0].path, []).append(question.text)
    pairs = [(texts[0], texts[1]) for texts in by_path.values() if len(texts) > 1]
    return pairs[:: max(1, len(pairs) // count)][:count]


def measure(side: Side, config: AnswerConfig, pairs: list[tuple[str, str]]) -> list[dict[str, Any]]:
    rows = []
    for first, second in pairs:
        answerer = Answerer(side.index, side.model, config, reranker=side.reranker)
        turns: list[tuple[str, str]] = []
        runner = asyncio.Runner()  # one event loop and its threads, as in a server
        row: dict[str, Any] = {}
        for name, question in (("first", first), ("second", second)):
            start = time.perf_counter()
            answer = runner.run(answerer.answer(question, turns))
            usage = answer.usage
            row[name] = {
                "seconds": time.perf_counter() - start,
                "retrieval_s": answer.timings.retrieval_s,
                "prompt_tokens": usage.prompt_tokens,
                "cached_tokens": usage.cached_tokens,
            }
            turns.append((question, answer.answer))
        runner.close()
        rows.append(row)
    return rows


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    def median(turn: str, key: str) -> float:
        return statistics.median(row[turn][key] for row in rows)

    found: dict[str, Any] = {
        f"{turn}_{key}": median(turn, key)
        for turn in ("first", "second")
        for key in ("seconds", "retrieval_s", "prompt_tokens", "cached_tokens")
    }
    found["times_sooner"] = statistics.median(
        row["first"]["seconds"] / row["second"]["seconds"] for row in rows
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--json", type=pathlib.Path, default=None)
    parser.add_argument("--quick", action="store_true", help="one conversation")
    args = parser.parse_args()
    if args.quick:
        args.count = 2
    config = parse_settings(args.set)
    with ExitStack() as stack:
        side = Side(stack, SEEDS["held out"], held_out=True, model="smollm2-135m-instruct")
        pairs = conversations(side, args.count)
        measure(side, config, pairs[:1])  # the first of all pays for what is made once
        found = summarise(measure(side, config, pairs[1:]))
    print(f"{config.strategy}, {len(pairs) - 1} conversations, {processor()}")
    for name, value in found.items():
        print(f"  {name:24}{value:10.3f}")
    if args.json:
        runs = json.loads(args.json.read_text()) if args.json.exists() else {}
        runs[config.strategy] = {"machine": processor(), "conversations": len(pairs) - 1, **found}
        args.json.write_text(json.dumps(runs, indent=1) + "\n")


if __name__ == "__main__":
    main()
