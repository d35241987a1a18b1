"""A few steps of lmstack's GRPO as `grpo.py` says, and what they took.

    grpo_lmstack.py SIDE JOB.json

Sides: a precision, and after a ``+`` the form in which the engine holds the policy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from memory import peak_bytes

from lmstack.app.wiring.training import OnlineServices
from lmstack.train import Recipe
from lmstack.train.loop import Watch
from lmstack.train.run import train

BASE = "smollm2-135m-instruct"
PARTS = ("rollouts", "rewards", "measure", "forward", "backward")


class Clock(Watch):
    """Seconds, of the wall and of the processor, and the metrics, at the end of each step."""

    def __init__(self) -> None:
        self.stamps: list[tuple[float, float]] = []
        self.values: list[Mapping[str, float]] = []

    def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
        del done, total
        self.stamps.append((time.perf_counter(), time.process_time()))
        self.values.append(values)


def main(side: str, path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    precision, _, weights = side.partition("+")
    objective: dict[str, Any] = {
        "name": "grpo",
        "rewards": [
            "arithmetic",
            {"name": "length", "most": job["max_tokens"], "buffer": job["max_tokens"]},
        ],
        "samples": job["samples"],
        "max_tokens": job["max_tokens"],
        "rollouts": {"weights": weights} if weights else {},
    }
    recipe = Recipe.from_mapping(
        {
            "objective": objective,
            "base": BASE,
            "data": [job["data"]],
            "validation": 0.0,
            "output": job["output"],
            "run": job["output"] + ".run",
            "batch": job["batch"],
            "steps": job["steps"],
            "max_length": 512,
            "lr": job["lr"],
            "schedule": "constant",
            "warmup": 0.0,
            "weight_decay": 0.0,
            "seed": job["seed"],
            "save_every": job["steps"],
            "precision": precision,
            "lora": job["lora"],
        }
    )
    clock = Clock()
    train(recipe, watch=clock, services=OnlineServices())
    timed = clock.values[1:]
    spent = {part: sum(v.get(f"seconds_{part}", 0.0) for v in timed) for part in PARTS}
    print(
        json.dumps(
            {
                "stamps": clock.stamps,
                "answer_tokens": sum(v["answer_tokens"] for v in clock.values) / len(clock.values),
                "flat_groups": sum(v["flat_groups"] for v in timed) / max(len(timed), 1),
                "seconds_of": spent,
                "gap": max(v.get("gap", 0.0) for v in clock.values),
                "gap_largest": max(v.get("gap_largest", 0.0) for v in clock.values),
                "peak_bytes": peak_bytes(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
