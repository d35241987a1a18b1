"""DPO, IPO, KTO, ORPO and SimPO on the same pairs: by a small model that knows its sums.

    python benchmarks/pairwise.py [--seeds 8]

The model of `sums.py` could add and was then taught carelessly, anew for each seed. Each objective
learns from the same pairs of a right and a wrong sum, with the settings of its recipe but for the
learning rate: the one of `RATES` that answers best on seeds that do not count otherwise. The other
seeds say how often answers that are drawn to prompts which nobody learned from are right, how often
the model finds the right sum likelier than a wrong one, and how likely the right one became; before
and after, with 95 % intervals of a bootstrap over seeds. KTO reads each pair as a good and a bad
answer.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import statistics
import tempfile
from collections.abc import Mapping
from typing import Any

import numpy as np
import preferences
import recording
import sums
import torch
import wrong_labels
from machine import machine

from lmstack.evals.statistics import paired
from lmstack.train import read_recipe

RECIPES = pathlib.Path(__file__).resolve().parents[1] / "recipes"
NAMES = ("dpo", "ipo", "kto", "orpo", "simpo")
RATES = (3e-5, 1e-4, 3e-4, 1e-3)
FIRST, TRIED, STEPS = 300, 2, 100
Figures = dict[str, float]


def figures_of(model: str, held: list[dict[str, str]]) -> Figures:
    pairs = wrong_labels.pairs_of(held, 100, random.Random(0))
    found = preferences.log_probs(model, pairs)
    return {
        "right": wrong_labels.right(model, held),
        "ranked": float((found[:, 0] > found[:, 1]).mean()),
        "log_prob": float(np.mean(found[:, 0])),
    }


def of_seed(
    seed: int, rates: Mapping[str, tuple[float, ...]], steps: int
) -> tuple[Figures, dict[tuple[str, float], Figures]]:
    """Figures of the base, and of each objective after each of its ``rates``."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        base = sums.base(folder, seed)
        (pathlib.Path(base) / "chat_template.jinja").write_text(wrong_labels.TEMPLATE)
        pairs, held = wrong_labels.split(seed)
        found = {}
        for name, tried in rates.items():
            objective = read_recipe(RECIPES / f"{name}.yaml").objective
            for lr in tried:
                output = folder / f"{name}-{lr}".replace(".", "_")
                model = wrong_labels.tuned(
                    objective, base, pairs, output, seed=seed, steps=steps, lr=lr
                )
                found[name, lr] = figures_of(model, held)
                print(f"{seed} {name} {lr:g} {found[name, lr]}", flush=True)
        return figures_of(base, held), found


def chosen(seeds: range, steps: int) -> dict[str, tuple[float, ...]]:
    """The rate of each objective that answers best, on the mean over ``seeds``."""
    tried = [of_seed(seed, dict.fromkeys(NAMES, RATES), steps)[1] for seed in seeds]
    return {
        name: (
            max(RATES, key=lambda lr: statistics.fmean(run[name, lr]["right"] for run in tried)),
        )
        for name in NAMES
    }


def gains(before: list[Figures], after: list[Figures]) -> dict[str, Any]:
    found = {}
    for figure in before[0]:
        old, new = ([each[figure] for each in runs] for runs in (before, after))
        gain = paired(old, new)
        found[figure] = {
            "before": statistics.fmean(old),
            "after": statistics.fmean(new),
            "gain": gain.value,
            "low": gain.low,
            "high": gain.high,
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    recording.add_options(parser, "pairwise")
    parser.add_argument("--seeds", type=int, default=8)
    args = parser.parse_args()
    tried, steps = (1, 4) if args.quick else (TRIED, STEPS)
    torch.set_num_threads(1)
    rates = chosen(range(FIRST - tried, FIRST), steps)
    runs = [of_seed(seed, rates, steps) for seed in range(FIRST, FIRST + args.seeds)]
    before = [base for base, _ in runs]
    found: dict[str, Any] = {"machine": machine(), "seeds": args.seeds}
    for name in NAMES:
        (lr,) = rates[name]
        found[name] = {"lr": lr, **gains(before, [after[name, lr] for _, after in runs])}
        print(name, json.dumps(found[name]))
    path = recording.result_file(args, "pairwise")
    path.write_text(json.dumps(found, indent=1) + "\n")
    print(f"written: {path}")


if __name__ == "__main__":
    main()
