"""What wrong labels cost DPO and cDPO, many times over: by a small model that knows its sums.

    python benchmarks/wrong_labels.py [--seeds 32]

The model of `sums.py` could add and was then taught carelessly, anew for each seed: what one base
says of the question another may not. Pairs are a right and a wrong sum. The hundred prompts are
split; pairs of the one part are learned by DPO and by cDPO (label smoothing of the planted share),
with right labels and with a share of them turned round, all else the same. Pairs of the other part
say how often the model ranks right before wrong (`accuracy`: the margin over the base), with what
loss (`loss`), and answers drawn to these prompts how often it is right.

What wrong labels cost is a difference of two runs of one seed; intervals are 95 % of a bootstrap
over seeds, and p is of random signs, so that what differs from run to run is in them.
`preferences.py` is the same question of the default model, once.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import preferences
import recording
import sums
import torch
from machine import machine

from lmstack.app.wiring.training import OnlineServices
from lmstack.evals.statistics import paired
from lmstack.registry import load
from lmstack.train import Recipe, train
from lmstack.train.rollouts.experience import sample_seed
from lmstack.train.rollouts.protocol import Drawing, RolloutConfig, RolloutPrompt

TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
WRONG, LEARNED, PAIRS, DRAWN = 0.2, 60, 4, 8
RUNS = {"DPO": (0.0, 0.0), "DPO, wrong": (0.0, WRONG)}
RUNS |= {"cDPO": (WRONG, 0.0), "cDPO, wrong": (WRONG, WRONG)}
Pair = dict[str, str]


def pairs_of(prompts: Sequence[Mapping[str, str]], count: int, drawn: random.Random) -> list[Pair]:
    """``count`` wrong sums to each of ``prompts`` beside the right one."""
    found = []
    for row in prompts:
        right = int(row["answer"])
        near = range(-sums.MOST_OFF, sums.MOST_OFF + 1)
        wrong = sorted({max(right + off, 0) for off in near} - {right})
        for other in drawn.sample(wrong, min(count, len(wrong))):
            chosen = {"chosen": str(right), "rejected": str(other)}
            found.append({"prompt": row["prompt"], **chosen})
    return found


def split(seed: int) -> tuple[list[Pair], list[dict[str, str]]]:
    """Pairs of the prompts that runs of ``seed`` learn from, and the other prompts."""
    drawn = random.Random(seed)
    prompts = drawn.sample(sums.prompts(), 100)
    return pairs_of(prompts[:LEARNED], PAIRS, drawn), prompts[LEARNED:]


def tuned(
    objective: Mapping[str, Any],
    base: str,
    pairs: Sequence[Pair],
    output: pathlib.Path,
    *,
    seed: int,
    steps: int,
    lr: float,
) -> str:
    """``base`` after ``steps`` of ``objective`` on ``pairs``, which is ``output``."""
    recipe = Recipe(
        objective=dict(objective),
        base=base,
        data=(sums.written(output.with_suffix(".jsonl"), pairs),),
        validation=0,
        output=str(output),
        run=f"{output}-run",
        max_length=16,
        batch=24,
        steps=steps,
        lr=lr,
        schedule="cosine",
        weight_decay=0.0,
        seed=seed,
        save_every=1_000_000,
    )
    train(recipe)
    return recipe.output


def one(
    name: str, base: str, seed: int, folder: pathlib.Path, steps: int, lr: float
) -> dict[str, float]:
    """A run of ``seed``: how it ranks held-out pairs and answers held-out prompts."""
    smoothing, wrong = RUNS[name]
    pairs, held = split(seed)
    objective = {"name": "dpo", "beta": 0.1, "label_smoothing": smoothing}
    output = folder / f"{name.replace(', ', '-')}-{seed}"
    turned = preferences.turned(pairs, wrong, seed)
    model = tuned(objective, base, turned, output, seed=seed, steps=steps, lr=lr)
    tested = pairs_of(held, 100, random.Random(0))
    gained = preferences.log_probs(model, tested) - preferences.log_probs(base, tested)
    margins = gained[:, 0] - gained[:, 1]
    return {
        "accuracy": float((margins > 0).mean()),
        "right": right(model, held),
        "margin": float(0.1 * margins.mean()),
        "loss": float(np.logaddexp(0, -0.1 * margins).mean()),
    }


def right(model: str, prompts: Sequence[Mapping[str, str]]) -> float:
    """The share of answers to ``prompts``, several drawn to each, that begin with the sum."""
    loaded = load(model)
    sampler = OnlineServices().sampler(loaded, RolloutConfig(weights="float32"))
    sampler.update(loaded.module)
    asked = [
        RolloutPrompt((), tuple(loaded.tokenizer.encode(row["prompt"], special=False)), dict(row))
        for row in prompts
    ]
    seeds = [[sample_seed(7, DRAWN * at + n) for n in range(DRAWN)] for at in range(len(asked))]
    groups = sampler.sample(asked, Drawing(sums.ANSWER_TOKENS), seeds)
    sampler.close()
    reward = OnlineServices().reward("arithmetic", {})
    return statistics.fmean(reward.score([sample for group in groups for sample in group]))


def interval(values: Sequence[float]) -> dict[str, float | None]:
    found = paired([0.0] * len(values), values)
    return {"mean": found.value, "low": found.low, "high": found.high, "p": found.p}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    recording.add_options(parser, "wrong_labels")
    parser.add_argument("--seeds", type=int, default=32)
    parser.add_argument("--first", type=int, default=200, help="the first seed")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--lr", type=float, default=1e-4)
    args = parser.parse_args()
    if args.quick:
        args.seeds, args.steps = 2, 4
    torch.set_num_threads(1)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in RUNS}
    before: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(args.first, args.first + args.seeds):
            folder = pathlib.Path(scratch) / str(seed)
            folder.mkdir()
            base = sums.base(folder, seed)
            (pathlib.Path(base) / "chat_template.jinja").write_text(TEMPLATE)
            before.append(right(base, sums.prompts()))
            for name in RUNS:
                runs[name].append(one(name, base, seed, folder, args.steps, args.lr))
            print(seed, {name: runs[name][-1] for name in RUNS}, flush=True)
    found: dict[str, Any] = {"machine": machine(), "base_right": before, "runs": runs}
    for figure, sign in (("accuracy", 1), ("right", 1), ("loss", -1)):
        lost = {
            name: [
                sign * (one[figure] - other[figure])
                for one, other in zip(runs[name], runs[f"{name}, wrong"], strict=True)
            ]
            for name in ("DPO", "cDPO")
        }
        lost["DPO less cDPO"] = [a - b for a, b in zip(lost["DPO"], lost["cDPO"], strict=True)]
        found[f"{figure}_lost"] = {name: interval(each) for name, each in lost.items()}
        print(figure, "lost to wrong labels", found[f"{figure}_lost"])
    path = recording.result_file(args, "wrong_labels")
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
