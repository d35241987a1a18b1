"""Fine-tunes as `training.py` says with transformers' Trainer, or TRL's, and prints what it took.

    with_trainer.py SIDE JOB.json

Sides: ``guide`` is the guide's recipe (PEFT's LoRA, every example padded to 512, batches of 4,
four of them a step; float32, since it asks for float16, which a CPU does not train in). ``padded``
the same where a batch is padded to its longest, in the precision of the job. ``trl`` is SFTTrainer
with packing in that, the base held in it, a row of 1,024 tokens at a time (attention of several
rows is computed over all of them). ``full`` (float32) and ``full_fast`` train all weights, a batch
padded to its longest. Runs in the peers' environment, without lmstack.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from datasets import Dataset
from memory import peak_bytes
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

IGNORED = -100


class Clock(TrainerCallback):
    """Seconds, of the wall and of the processor, at the end of each step."""

    def __init__(self) -> None:
        self.stamps: list[tuple[float, float]] = []

    def on_step_end(self, *_given: Any, **_named: Any) -> None:
        self.stamps.append((time.perf_counter(), time.process_time()))


class Padded:
    """Batches of ``length`` tokens, or None: of the longest of each."""

    def __init__(self, pad: int, length: int | None) -> None:
        self.pad, self.length = pad, length

    def __call__(self, rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = self.length or max(len(row["input_ids"]) for row in rows)
        fills = {"input_ids": self.pad, "labels": IGNORED, "attention_mask": 0}
        found: dict[str, list[list[int]]] = {name: [] for name in fills}
        for row in rows:
            ids = row["input_ids"][:longest]
            parts = {
                "input_ids": ids,
                "labels": row["labels"][:longest],
                "attention_mask": [1] * len(ids),
            }
            for name, values in parts.items():
                found[name].append(values + [fills[name]] * (longest - len(ids)))
        return {name: torch.tensor(values) for name, values in found.items()}


def arguments(job: dict[str, Any], side: str) -> dict[str, Any]:
    """What all recipes share: the guide's, with a fixed seed."""
    return {
        "output_dir": job["output"] + ".run",
        "num_train_epochs": 1,
        "learning_rate": job["lr"],
        "warmup_steps": job["warmup_steps"],
        "lr_scheduler_type": "cosine",
        "weight_decay": job["weight_decay"],
        "bf16": job["precision"] == "bfloat16" and side not in ("guide", "full"),
        "use_cpu": True,
        "gradient_checkpointing": False,
        "logging_steps": 10,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": job["seed"],
        "remove_unused_columns": False,
    }


def trainer(job: dict[str, Any], side: str, rows: list[dict[str, list[int]]]) -> Trainer:
    dtype = getattr(torch, job["precision"]) if side == "trl" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    model.config.use_cache = False
    lora = None if side.startswith("full") else LoraConfig(task_type="CAUSAL_LM", **job["lora"])
    data, shared = Dataset.from_list(rows), arguments(job, side)
    if side == "trl":
        from trl import SFTConfig, SFTTrainer

        settings = SFTConfig(
            **shared | {"remove_unused_columns": True},
            packing=True,
            max_length=job["row"],
            per_device_train_batch_size=1,
            gradient_accumulation_steps=job["rows"],
        )
        return SFTTrainer(
            model, args=settings, train_dataset=data, processing_class=tokenizer, peft_config=lora
        )
    if lora is not None:
        model = get_peft_model(model, lora)
    collate = Padded(tokenizer.pad_token_id, 512 if side == "guide" else None)
    size = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": job["batch"] // 4,
    }
    return Trainer(model, Arguments(**shared | size), train_dataset=data, data_collator=collate)


def main(side: str, path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    with open(job["examples"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    made = trainer(job, side, rows)
    clock = Clock()
    made.add_callback(clock)
    made.train()
    peak = peak_bytes()
    made.model.save_pretrained(job["output"])
    AutoTokenizer.from_pretrained(job["model"]).save_pretrained(job["output"])
    first, last = clock.stamps[0], clock.stamps[-1]
    steps = len(clock.stamps)
    tokens = sum(len(row["input_ids"]) for row in rows) * (steps - 1) / steps
    print(
        json.dumps(
            {
                "steps": steps,
                "tokens": tokens,
                "seconds": last[0] - first[0],
                "processor_seconds": last[1] - first[1],
                "peak_bytes": peak,
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
