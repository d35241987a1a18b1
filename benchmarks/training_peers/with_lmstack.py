"""Fine-tunes as `training.py` says with `lmstack.train`, and prints what it took.

    with_lmstack.py SIDE JOB.json

Sides are those of `SIDES`: what each changes of the recipe. ``JOB`` is that of `with_trainer.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from memory import peak_bytes

from lmstack.train import Recipe
from lmstack.train.loop import Watch
from lmstack.train.run import train

BASE = "smollm2-135m-instruct"
SIDES: dict[str, dict[str, Any]] = {
    "lora": {"precision": "auto"},
    "lora_int8": {"precision": "int8"},
    "lora_float32": {"precision": "float32"},
    "qlora": {"precision": "auto", "weights": "nf4", "checkpointing": True},
    "full": {"precision": "auto", "lora": None},
    "full_float32": {"precision": "float32", "lora": None},
}


class Clock(Watch):
    """Seconds, of the wall and of the processor, and tokens, at the end of each step."""

    def __init__(self) -> None:
        self.stamps: list[tuple[float, float, float]] = []

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        del done, total
        self.stamps.append((time.perf_counter(), time.process_time(), values["tokens"]))


def recipe(side: str, job: Mapping[str, Any]) -> Recipe:
    lora = job["lora"]
    settings = {
        "objective": "sft",
        "base": BASE,
        "data": [job["data"]],
        "validation": 0.0,
        "output": job["output"],
        "run": job["output"] + ".run",
        "batch": job["batch"],
        "pack": False,
        "max_length": 1024,
        "lr": job["lr"],
        "schedule": "cosine",
        "final_lr": 0.0,
        "warmup": job["warmup_steps"] / job["steps"],
        "weight_decay": job["weight_decay"],
        "seed": job["seed"],
        "save_every": job["steps"],  # as the peers, at the end
        "lora": {
            "r": lora["r"],
            "alpha": lora["lora_alpha"],
            "dropout": lora["lora_dropout"],
            "targets": lora["target_modules"],
        },
    }
    return Recipe.from_mapping(settings | SIDES[side])


def main(side: str, path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    clock = Clock()
    result = train(recipe(side, job), watch=clock)
    first, last = clock.stamps[0], clock.stamps[-1]
    found = {
        "steps": result.steps,
        "tokens": last[2] - first[2],
        "seconds": last[0] - first[0],
        "processor_seconds": last[1] - first[1],
        "peak_bytes": peak_bytes(),
        "folder": str(result.folder),
        "flops_per_second": result.flops_per_second,
        "matrix_rate": result.matrix_rate,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
