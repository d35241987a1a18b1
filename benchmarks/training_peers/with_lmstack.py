"""Fine-tunes as `training.py` says with `lmstack.train`, and prints what it took.

    with_lmstack.py SIDE JOB.json            what it took
    with_lmstack.py SIDE JOB.json profile    where the processor's time goes, by kinds of operations

Sides are those of `SIDES`: what each changes of the recipe. ``JOB`` is that of `with_trainer.py`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from lmstack.train import Recipe
from lmstack.train.loop import Watch
from lmstack.train.run import train

BASE = "smollm2-135m-instruct"
SIDES: dict[str, dict[str, Any]] = {
    "lora": {"precision": "bfloat16"},
    "lora_int8": {"precision": "int8"},
    "lora_float32": {"precision": "float32"},
    "qlora": {"precision": "bfloat16", "weights": "nf4", "checkpointing": True},
    "full": {"precision": "bfloat16", "lora": None},
    "full_float32": {"precision": "float32", "lora": None},
}


# Operations of torch by what they are for; the rest are norms, activations and their gradients.
KINDS = {
    "products": ("aten::mm", "aten::addmm", "aten::addmm_", "aten::_int_mm"),
    "attention": (
        "aten::bmm",
        "aten::_softmax",
        "aten::_softmax_backward_data",
        "aten::_scaled_dot_product_flash_attention_for_cpu",
        "aten::_scaled_dot_product_flash_attention_for_cpu_backward",
    ),
    "copies and casts": (
        "aten::copy_",
        "aten::cat",
        "aten::index_select",
        "aten::fill_",
        "aten::index",
    ),
    "quantizing activations": ("aten::abs", "aten::amax", "aten::round_"),
    "loss": (
        "aten::_log_softmax",
        "aten::_log_softmax_backward_data",
        "aten::argmax",
        "aten::nll_loss_backward",
    ),
    "optimizer": ("Optimizer.step#AdamW.step", "aten::_fused_adamw_"),
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
        "lora": {
            "r": lora["r"],
            "alpha": lora["lora_alpha"],
            "dropout": lora["lora_dropout"],
            "targets": lora["target_modules"],
        },
    }
    return Recipe.from_mapping(settings | SIDES[side])


def profiled(settings: Recipe) -> dict[str, float]:
    """Shares of the processor's time of the last step, by kind."""

    class Last(Watch):
        """Profiles what comes after the first step."""

        def step(self, done: int, total: int, values: Mapping[str, float]) -> None:
            del values
            if done == 1:
                profiler.start()
            elif done == total:
                profiler.stop()

    profiler = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
    train(settings, watch=Last())
    times = {event.key: event.self_cpu_time_total for event in profiler.key_averages()}
    whole = sum(times.values())
    found = {
        kind: sum(times.get(name, 0.0) for name in names) / whole for kind, names in KINDS.items()
    }
    return {**found, "norms, activations and the rest": 1 - sum(found.values())}


def main(side: str, path: str, what: str = "") -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    if what == "profile":
        print(json.dumps(profiled(recipe(side, job))))
        return
    clock = Clock()
    result = train(recipe(side, job), watch=clock)
    first, last = clock.stamps[0], clock.stamps[-1]
    found = {
        "steps": result.steps,
        "tokens": last[2] - first[2],
        "seconds": last[0] - first[0],
        "processor_seconds": last[1] - first[1],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "folder": str(result.folder),
        "flops_per_second": result.flops_per_second,
        "matrix_rate": result.matrix_rate,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
