"""A few steps of TRL's GRPOTrainer as `grpo.py` says, and what they took.

    grpo_trl.py SIDE JOB.json

Sides: ``float32``; ``bfloat16``: the base held in it. Answers are drawn by transformers'
`generate`. Runs in the peers' environment, without lmstack.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

import torch
from datasets import Dataset
from memory import peak_bytes
from peft import LoraConfig
from transformers import AutoTokenizer, TrainerCallback
from trl import GRPOConfig, GRPOTrainer


class Clock(TrainerCallback):
    """Seconds, of the wall and of the processor, at the end of each step."""

    def __init__(self) -> None:
        self.stamps: list[tuple[float, float]] = []

    def on_step_end(self, *_given: Any, **_named: Any) -> None:
        self.stamps.append((time.perf_counter(), time.process_time()))


def right_number(completions: list[Any], answer: list[str], **_more: Any) -> list[float]:
    """1 where the last number of an answer is the row's."""
    found = []
    for completion, wanted in zip(completions, answer, strict=True):
        numbers = re.findall(r"-?\d+", completion[0]["content"])
        found.append(float(bool(numbers) and numbers[-1] == wanted))
    return found


def main(side: str, path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    with open(job["data"], encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    for row in rows:
        row["prompt"] = [{"role": "user", "content": row["prompt"]}]
    clock, lora = Clock(), job["lora"]
    config = GRPOConfig(
        output_dir=job["output"] + ".run",
        model_init_kwargs={"dtype": side},
        bf16=False,
        use_cpu=True,
        max_steps=job["steps"],
        num_generations=job["samples"],
        per_device_train_batch_size=job["pass"],
        gradient_accumulation_steps=job["batch"] * job["samples"] // job["pass"],
        max_completion_length=job["max_tokens"],
        temperature=1.0,
        top_k=0,
        beta=0.0,
        loss_type="dapo",
        scale_rewards="group",
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        gradient_checkpointing=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job["seed"],
    )
    trainer = GRPOTrainer(
        model=job["model"],
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        reward_funcs=[
            right_number,
            lambda completion_ids, **_: [-len(ids) / job["max_tokens"] for ids in completion_ids],
        ],
        args=config,
        train_dataset=Dataset.from_list(rows),
        callbacks=[clock],
        peft_config=LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            lora_dropout=0.0,
            target_modules=lora["targets"],
            task_type="CAUSAL_LM",
        ),
    )
    trainer.train()
    logs = [line for line in trainer.state.log_history if "reward" in line]
    lengths = [line["completions/mean_length"] for line in logs]
    print(
        json.dumps(
            {
                "stamps": clock.stamps,
                "answer_tokens": sum(lengths) / max(len(lengths), 1),
                "peak_bytes": peak_bytes(),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
