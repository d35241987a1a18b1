"""Pre-trains a fresh LLaMA as `pretraining.py` says with transformers' Trainer.

    pretrain.py JOB.json

Documents end with the end-of-text token, are put end to end and cut into rows of ``row`` tokens,
as transformers' own example of causal language modelling does. The first steps are timed, and as
many are then made as fill ``seconds``. Runs in the peers' environment, without lmstack.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import torch
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainingArguments,
)

TIMED = 8


def rows_of(job: dict[str, Any], tokenizer: Any) -> list[dict[str, list[int]]]:
    ids: list[int] = []
    for path in job["files"]:
        with open(path, encoding="utf-8") as file:
            ids += [*tokenizer(file.read())["input_ids"], tokenizer.eos_token_id]
    row = job["row"]
    return [
        {"input_ids": part}
        for part in (ids[i : i + row] for i in range(0, len(ids), row))
        if len(part) == row
    ]


def collate(rows: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row["input_ids"] for row in rows])
    return {"input_ids": ids, "labels": ids.clone()}


def trained(job: dict[str, Any], rows: list[dict[str, list[int]]], steps: int) -> tuple[Any, float]:
    """The model after ``steps``, and their seconds."""
    torch.manual_seed(job["seed"])
    model = LlamaForCausalLM(LlamaConfig(**job["model"]))
    arguments = TrainingArguments(
        output_dir=job["output"] + ".run",
        max_steps=steps,
        per_device_train_batch_size=job["batch"],
        learning_rate=job["lr"],
        warmup_steps=max(1, steps * 3 // 100),
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        adam_beta2=0.95,
        bf16=job["bfloat16"],
        use_cpu=True,
        logging_steps=10,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=job["seed"],
        remove_unused_columns=False,
    )
    trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collate)
    started = time.perf_counter()
    trainer.train()
    return model, time.perf_counter() - started


def main(path: str) -> None:
    with open(path, encoding="utf-8") as file:
        job = json.load(file)
    torch.set_num_threads(job["threads"])
    tokenizer = AutoTokenizer.from_pretrained(job["tokenizer"])
    rows = rows_of(job, tokenizer)
    _, first = trained(job, rows, 2)
    _, more = trained(job, rows, 2 + TIMED)
    steps = int(job["seconds"] / max((more - first) / TIMED, 1e-3))
    model, seconds = trained(job, rows, steps)
    model.save_pretrained(job["output"])
    tokenizer.save_pretrained(job["output"])
    tokens = steps * job["batch"] * job["row"]
    print(json.dumps({"steps": steps, "tokens": tokens, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1])
