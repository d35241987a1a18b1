"""Requests with sixteen adapters of one model in each batch, against the model alone.

    python benchmarks/adapters.py            all of it, a few minutes
    python benchmarks/adapters.py --quick    fewer requests, tokens and rounds
    python benchmarks/adapters.py --wall     two threads and the clock on the wall
    python benchmarks/adapters.py --weights int8    another form than the one that is served

SmolLM2-135M-Instruct in the form that `lmstack up` serves, on the native ops, 64 requests at once
of 16 tokens in and 32 out. All sides share one engine and its weights and take turns, because
shared machines stall; of each the median of the rounds counts, and the best is given beside it.
Seconds are processor time of one thread unless `--wall` is given. The adapters are drawn at random;
request i has adapter i % 16. The first four requests of each side are also run alone, and have to
give the same tokens.
"""

from __future__ import annotations

import argparse
import itertools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

from recording import add_options, result_file
from spine import processor

MODEL = "smollm2-135m-instruct"
NUM_ADAPTERS = 16
SOME = ("q_proj", "v_proj")
SIDES: dict[str, tuple[int, Any]] = {
    "rank 8 on queries and values": (8, SOME),
    "rank 16 on queries and values": (16, SOME),
    "rank 8 on all layers": (8, "all-linear"),
    "rank 16 on all layers": (16, "all-linear"),
}


def write_adapters(module: Any, folder: pathlib.Path, rank: int, targets: Any) -> None:
    import torch

    from lmstack.model import LoraConfig, add_adapter, remove_adapter, save_adapter

    add_adapter(module, LoraConfig(r=rank, alpha=2 * rank, targets=targets))
    for number in range(NUM_ADAPTERS):
        generator = torch.Generator().manual_seed(number)
        for name, parameter in module.named_parameters():
            if ".terms." in name:
                drawn = torch.randn(parameter.shape, generator=generator)
                parameter.data.copy_(drawn * 0.01)
        save_adapter(module, folder / str(number))
    remove_adapter(module)


class Bench:
    def __init__(
        self, loaded: Any, prompts: Sequence[Sequence[int]], tokens: int, wall: bool
    ) -> None:
        from lmstack.engine import Engine, EngineConfig, GrammarVocabulary

        tokenizer = loaded.tokenizer
        vocabulary = GrammarVocabulary(
            [tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size)],
            frozenset(),
            frozenset(),
        )
        config = EngineConfig(prefix_cache=False, speculation="off", max_sequences=len(prompts))
        self.engine = Engine(loaded.module, vocabulary, config)
        self._prompts, self._tokens = prompts, tokens
        self._clock = time.perf_counter if wall else time.process_time
        self._numbers = itertools.count()

    @staticmethod
    def _hear(text: list[int], event: Any) -> None:
        text.append(event.token)

    def run(self, adapters: Sequence[Any], which: Sequence[int]) -> tuple[float, list[list[int]]]:
        """Tokens a second, and the tokens of the requests ``which``."""
        from lmstack.core import SamplingParams
        from lmstack.engine import EngineRequest

        texts: list[list[int]] = [[] for _ in which]
        params = SamplingParams(temperature=0.0, max_tokens=self._tokens)
        for place, index in enumerate(which):
            request = EngineRequest(
                str(next(self._numbers)),
                tuple(self._prompts[index]),
                partial(self._hear, texts[place]),
                params,
                adapter=adapters[index % len(adapters)] if adapters else None,
            )
            self.engine.submit(request)
        start = self._clock()
        while self.engine.step():
            pass
        return sum(map(len, texts)) / (self._clock() - start), texts


def measure(bench: Bench, sides: dict[str, list[Any]], rounds: int, count: int) -> list[Any]:
    rates: dict[str, list[float]] = {name: [] for name in sides}
    texts: dict[str, list[list[int]]] = {}
    everything = range(count)
    for number in range(rounds + 1):
        for name in list(sides) if number % 2 else reversed(sides):
            rate, texts[name] = bench.run(sides[name], everything)
            if number:  # the first warms caches and costs
                rates[name].append(rate)
    results = []
    base = statistics.median(rates["base"])
    for name, adapters in sides.items():
        alone = [bench.run(adapters, [i])[1][0] for i in range(4)]
        results.append(
            {
                "side": name,
                "tokens_per_s": statistics.median(rates[name]),
                "best": max(rates[name]),
                "ratio": statistics.median(rates[name]) / base,
                "ratio_of_best": max(rates[name]) / max(rates["base"]),
                "equal_alone": alone == texts[name][: len(alone)],
                "raw": rates[name],
            }
        )
        print(line(results[-1]), flush=True)
    return results


def line(r: dict[str, Any]) -> str:
    return (
        f"{r['side']:32} {r['tokens_per_s']:7.1f} tokens/s  x {r['ratio']:.3f}"
        f" (best {r['ratio_of_best']:.3f}){'' if r['equal_alone'] else '  NOT EQUAL ALONE'}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wall", action="store_true")
    parser.add_argument("--weights", metavar="FORM")
    add_options(parser, "adapters")
    args = parser.parse_args()
    import torch

    from lmstack.registry import Store
    from lmstack.serve.local import load_weights

    if not args.wall:
        torch.set_num_threads(1)
    count, tokens, rounds = (8, 8, 1) if args.quick else (64, 32, 3)
    loaded = load_weights(MODEL, Store(), args.weights)
    text = (pathlib.Path(__file__).resolve().parent.parent / "README.md").read_text("utf-8")
    ids = list(loaded.tokenizer.encode(text))
    prompts = [ids[7 * i : 7 * i + 16] for i in range(count)]
    bench = Bench(loaded, prompts, tokens, wall=args.wall)
    sides: dict[str, list[Any]] = {"base": []}
    sizes: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as root:
        for name, (rank, targets) in SIDES.items():
            folder = pathlib.Path(root) / str(len(sides))
            write_adapters(loaded.module, folder, rank, targets)
            start = time.perf_counter()
            sides[name] = [bench.engine.open_adapter(folder / str(i)) for i in range(NUM_ADAPTERS)]
            opened_s = (time.perf_counter() - start) / NUM_ADAPTERS
            sizes[name] = {"parameters": sides[name][0].num_parameters, "opened_s": opened_s}
    results = measure(bench, sides, rounds, count)
    report = {
        "machine": {"processor": processor(), "threads": torch.get_num_threads()},
        "seconds": "wall" if args.wall else "processor time",
        "model": MODEL,
        "weights": loaded.form,
        "requests": count,
        "adapters": NUM_ADAPTERS,
        "results": [r | sizes.get(r["side"], {}) for r in results],
    }
    result_file(args, "adapters").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
