"""One form of the weights beside the others: one stream, some streams, a prompt, 64 requests.

    python benchmarks/weight_forms.py [--threads 1] [--rounds 12]

SmolLM2 in each form on the native ops, without scheduler and sampler. Forms take turns, and the
least processor time of a pass counts, so that a busy machine matters little; with more threads
than one it includes what threads wait for each other. The last columns are shares of the better
of `file` and `int8`. `file8 packed`: as where memory is short, without the codes of 8 bits.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from spine import processor

from lmstack.engine.cpu import expanding
from lmstack.engine.cpu.executor import NativeExecutor
from lmstack.engine.executor import SequenceSpan
from lmstack.registry import Store, load

MODEL, BLOCK, CHUNK = "smollm2-135m-instruct", 16, 512
FORMS = ("file", "int8", "file8", "file8 packed")
PROMPT = 1024
STREAMS = (1, 2, 4, 8, 16, 64)
CONTEXT = 128  # tokens that each stream has read


def opened(form: str) -> NativeExecutor:
    store = Store()
    name, _, packed = form.partition(" ")
    module = load(store.resolve(MODEL), store, weights=name).module
    room = expanding.has_room
    if packed:
        expanding.has_room = lambda _size: False
    try:
        return NativeExecutor(module, PROMPT // BLOCK + 16 * max(STREAMS), BLOCK, "int8")
    finally:
        expanding.has_room = room


def ids(count: int) -> list[int]:
    return [i * 7919 % 40_000 for i in range(count)]


def prompt(executor: NativeExecutor) -> float:
    table, start = range(PROMPT // BLOCK), time.process_time()
    for first in range(0, PROMPT, CHUNK):
        end = first + CHUNK
        span = SequenceSpan(table, first, end, wanted=int(end == PROMPT))
        hidden = executor.hidden(ids(CHUNK), range(first, end), [span], None)
    executor.logits(hidden[-1:].contiguous())
    return time.process_time() - start


def step(executor: NativeExecutor, streams: int) -> float:
    spans = [SequenceSpan(range(16 * i, 16 * i + 16), CONTEXT, CONTEXT + 1) for i in range(streams)]
    repeats = max(1, 16 // streams)
    start = time.process_time()
    for _ in range(repeats):
        executor.logits(executor.hidden(ids(streams), [CONTEXT] * streams, spans, None))
    return (time.process_time() - start) / repeats


def measured(executor: NativeExecutor, name: str) -> float:
    return prompt(executor) if name == "prompt" else step(executor, int(name.split()[0]))


def turns(executors: Sequence[NativeExecutor], rounds: int) -> dict[str, list[float]]:
    """For each measure the least seconds of each executor."""
    names = [*(f"{n} rows" for n in STREAMS), "prompt"]
    least = {name: [float("inf")] * len(executors) for name in names}
    for round_ in range(rounds):
        for name in names:
            order = range(len(executors))[:: -1 if round_ % 2 else 1]
            for i in order:
                streams = name.removesuffix(" rows")
                found = (
                    prompt(executors[i]) if name == "prompt" else step(executors[i], int(streams))
                )
                least[name][i] = min(least[name][i], found)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=12)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{processor()}, {args.threads} threads, ms of processor time")
    with torch.inference_mode():
        least = turns([opened(form) for form in FORMS], args.rounds)
    print(f"{'':10}{''.join(f'{form:>14}' for form in FORMS)}   shares of the better")
    for name, seconds in least.items():
        better = min(seconds[:2])
        shares = " ".join(f"{better / each:.2f}" for each in seconds)
        print(f"{name:10}{''.join(f'{1e3 * each:14.2f}' for each in seconds)}   {shares}")


if __name__ == "__main__":
    main()
